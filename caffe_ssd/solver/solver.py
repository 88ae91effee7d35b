"""The optimisation loop: train, test, display, snapshot, resume.

Spec: caffe-solver.md sections 1, 2, 4 and 7.

Quirk: a test, a snapshot and the training line of iteration k all see the weights after k updates.
Quirk: the displayed output values are those of the last pass, not averaged.
Quirk: if the last iteration is one to display, one more forward pass is made, which takes a batch.

Deliberate difference: after `restore` the data layers go on where the snapshot was taken, so that a
resumed run equals the uninterrupted one; `restart_data` gives the reference's behaviour, which
starts again at the first record.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from caffe_ssd import log
from caffe_ssd.errors import SolverError
from caffe_ssd.layers.registry import Runtime
from caffe_ssd.net import Net, NetResult
from caffe_ssd.net.captured import CapturedPasses
from caffe_ssd.net.net_log import build_logged_net
from caffe_ssd.proto.caffe_pb2 import SnapshotOrigin, SolverParameter
from caffe_ssd.proto.lenient import Lenient
from caffe_ssd.proto.upgrade import upgrade_solver
from caffe_ssd.solver import debug_info
from caffe_ssd.solver.display import display_loss, display_rate, log_step
from caffe_ssd.solver.grouping import PassPlan, nets_of_other_devices
from caffe_ssd.solver.hooks import Action, Callback, Observer, no_action
from caffe_ssd.solver.origin import make_origin
from caffe_ssd.solver.policies import ScheduleState, check_policy, learning_rate, needs_loss
from caffe_ssd.solver.resume import restore_snapshot
from caffe_ssd.solver.smoothing import LossWindow
from caffe_ssd.solver.snapshot import SavedState
from caffe_ssd.solver.snapshot_files import check_prefix, snapshot_paths, write_snapshot
from caffe_ssd.solver.sources import NetSource, test_sources, train_source
from caffe_ssd.solver.testing import Score, TestResult
from caffe_ssd.solver.testing import check_settings as check_test_settings
from caffe_ssd.solver.updater import Updater
from caffe_ssd.solver.updates import update_rule
from caffe_ssd.solver.watchdog import Watchdog


class Solver:
    """Trains one net and scores its test nets.

    Args:
        param: the settings; the paths in them are relative to the current folder.
        runtime: surroundings for the layers; its random stream is seeded when `random_seed` >= 0.
        device: where to train.
        lenient: skip unknown fields of net files, with a warning.

    Attributes:
        net: the train net.
        test_nets: the test nets; they share the train net's blobs.
        iter: the number of completed updates.
        schedule: the position of the learning-rate policy.
        updater: applies the update rule and keeps its history.
        callbacks: called in every iteration.
        observers: told what happens.
        action_source: asked once per iteration and before each pass of a test.
        watchdog: ends the training when its numbers are not finite.
        options: what else changes the numbers, such as flags of the command; kept in snapshots.
        restart_data: after `restore` begin again at the first record, as the reference does.
        pass_plan: the passes of an iteration; see `use_groups`.
        captured: what replays them; see `use_cuda_graph`.
        store_updates: leave in each blob's `grad` what was subtracted from it.

    Raises:
        SolverError: the settings are wrong.
        CaffeError: a net cannot be built.
    """

    def __init__(
        self,
        param: SolverParameter,
        *,
        runtime: Runtime | None = None,
        device: torch.device | str = "cpu",
        lenient: Lenient = False,
    ) -> None:
        self.param = upgrade_solver(param)
        self.runtime = Runtime() if runtime is None else runtime
        self.device = torch.device(device)
        self.lenient = lenient
        self.iter = 0
        self.schedule = ScheduleState()
        self.callbacks: list[Callback] = []
        self.observers: list[Observer] = []
        self.action_source: Callable[[], Action] = no_action
        self.options: tuple[str, ...] = ()
        self.restart_data = False
        self.store_updates = False
        self.stopped_early = False
        self.captured: CapturedPasses | None = None
        self._check_settings()
        self.pass_plan = PassPlan(iter_size=self.param.iter_size)
        self._seed()
        self._build_nets()
        self.watchdog = Watchdog(self.net)
        self._window = LossWindow(self.param.average_loss)
        self.updater = Updater(self.param, self.net.learnable)
        log.SCAFFOLDING_DONE.write()

    # Construction --------------------------------------------------------------------------------

    def _check_settings(self) -> None:
        param = self.param
        log.SOLVER_PARAMETERS.write(text=log.message_text(param))
        if param.average_loss < 1:
            raise SolverError(f"average_loss must be at least 1, got {param.average_loss}")
        if param.iter_size < 1:
            raise SolverError(f"iter_size must be at least 1, got {param.iter_size}")
        update_rule(param)
        check_policy(param)
        check_test_settings(param)
        if param.snapshot > 0:
            check_prefix(param.snapshot_prefix, param.snapshot)

    def _seed(self) -> None:
        if self.param.random_seed >= 0:
            self.runtime.rng.seed(self.param.random_seed)
            torch.manual_seed(self.param.random_seed)

    def _build_nets(self) -> None:
        self._source = train_source(self.param, lenient=self.lenient)
        self.net = self.make_net(self._source)
        self.test_nets: list[Net] = []
        for i, source in enumerate(test_sources(self.param, lenient=self.lenient)):
            log.TEST_NET.write(index=i, source=source.origin)
            net = self.make_net(source)
            net.share_from(self.net)
            self.test_nets.append(net)

    def make_net(self, source: NetSource) -> Net:
        """Build one net on the solver's device; a subclass may make another kind of net."""
        net = build_logged_net(source.param, source.state, self.runtime)
        if self.device.type == "cuda":
            for data in net.sources.values():
                data.start()
        return net.to(self.device)

    def use_groups(self, joined: int | None = None, num_devices: int = 1) -> None:
        """Make several passes of an iteration as one, with the same result; see grouping.py.

        Args:
            joined: how many; None for all.
            num_devices: how many devices this process stands for; then the runtime's `world_size`
                counts them, and its `rank` is that of the first.

        Raises:
            SolverError: they do not divide the iteration's passes.
            NetError: a layer of the train net cannot be run so.
        """
        size = self.param.iter_size
        joined = size * num_devices if joined is None else joined
        self.pass_plan = PassPlan(iter_size=size, num_devices=num_devices, joined=joined)
        seed = self.param.random_seed
        others = nets_of_other_devices(self._source, self.runtime, num_devices, seed)
        self.net.use_groups(others, self.pass_plan.batches_at_once)

    def use_cuda_graph(self) -> None:
        """Let training passes be replayed; see captured.py. Call it when all else is chosen.

        Raises:
            NetError: a layer of the train net cannot be run so.
        """
        self.captured = CapturedPasses(self.net)

    # One pass ------------------------------------------------------------------------------------

    def forward(self, net: Net) -> NetResult:
        """One pass without gradients; a subclass may feed the net in its own way."""
        return debug_info.forward(net)

    def forward_backward(self, net: Net) -> NetResult:
        """One pass that adds to the gradients; a subclass may feed the net in its own way."""
        if self.captured is not None and not net.debug_info:
            return self.captured.forward_backward()
        return debug_info.forward_backward(net)

    # The loop ------------------------------------------------------------------------------------

    def solve(self, resume_file: str | Path | None = None) -> None:
        """Train up to `max_iter`, with the snapshots and tests due on the way and at the end.

        Args:
            resume_file: a solver state to start from.
        """
        param = self.param
        log.SOLVING.write(name=self.net.name)
        log.POLICY.write(policy=param.lr_policy)
        self.stopped_early = False
        if resume_file is not None:
            log.RESTORING_FROM.write(path=resume_file)
            self.restore(resume_file)
        self.step(max(param.max_iter - self.iter, 0))
        if param.snapshot_after_train and (param.snapshot == 0 or self.iter % param.snapshot):
            self.snapshot()
        if self.stopped_early:
            log.STOPPED_EARLY.write()
            return
        if self._is_due(param.display):
            self._window.add(self.forward(self.net).loss)
            log.FINAL_LOSS.write(iteration=self.iter, loss=self._window.mean)
        if self._is_due(param.test_interval):
            self.test_all()
        log.DONE.write()

    def step(self, count: int) -> None:
        """Make `count` updates, with the tests, lines and snapshots that are due."""
        param = self.param
        self._window = LossWindow(param.average_loss)
        self.stopped_early = False
        end = self.iter + count
        while self.iter < end:
            if self._is_due(param.test_interval) and (self.iter > 0 or param.test_initialization):
                self.test_all()
                self._act_outside_updates()  # somebody may stop because of the score
                if self.stopped_early:
                    break
            self._iterate()
            self._act()
            if self.stopped_early:
                break

    def _is_due(self, interval: int) -> bool:
        return interval > 0 and self.iter % interval == 0

    def _iterate(self) -> None:
        self.net.clear_diffs()
        for callback in self.callbacks:
            callback.on_start()
        is_displayed = self._is_due(self.param.display)
        self.net.debug_info = is_displayed and self.param.debug_info
        losses = []
        passes = list(self.pass_plan)
        for i, groups in enumerate(passes, 1):
            if i == len(passes):
                for callback in self.callbacks:
                    callback.on_last_pass()
            self.net.groups = groups
            result = self.forward_backward(self.net)
            losses.append(result.loss.detach())
        self.net.groups = None  # passes between iterations stand for themselves
        loss = torch.stack(losses).sum() / self.param.iter_size
        self._window.add(loss)
        if is_displayed:
            display_loss(self.net, result, self.iter, self._window.mean)
        for entry in self.net.learnable:
            if entry.blob.grad is None and entry.blob.requires_grad:  # nothing has reached it
                entry.blob.grad = torch.zeros_like(entry.blob)
        for callback in self.callbacks:
            callback.on_gradients_ready()
        self.watchdog.look(self.iter, loss, result)
        if is_displayed:
            self.watchdog.read()
        rate = self._next_rate(is_displayed)
        self.updater.apply(self.net.learnable, rate, self.iter, store_updates=self.store_updates)
        self.iter += 1
        for observer in self.observers:
            observer.on_iteration(self.iter)

    def _act(self) -> None:
        """Poll for an action after an update, and snapshot where one is due or wanted."""
        action = self.action_source()
        if action is Action.SNAPSHOT or self._is_due(self.param.snapshot):
            self.snapshot()
        if action is Action.STOP:
            self.stopped_early = True

    # The update ----------------------------------------------------------------------------------

    def _next_rate(self, is_displayed: bool) -> float:
        param, before = self.param, self.schedule
        loss = self._window.mean if needs_loss(param) else float("nan")
        rate, self.schedule = learning_rate(param, self.iter, before, loss)
        log_step(param, self.iter, before, self.schedule)
        if is_displayed:
            display_rate(param, self.iter, self.schedule, rate)
            for observer in self.observers:
                observer.on_display(self.iter, self._window.mean, rate)
        return rate

    # Testing -------------------------------------------------------------------------------------

    def test_all(self) -> list[TestResult]:
        """Score every test net; shorter than the list of test nets if a stop was requested."""
        results = []
        for i in range(len(self.test_nets)):
            result = self.test(i)
            if result is None:
                break
            results.append(result)
        return results

    def test(self, index: int = 0) -> TestResult | None:
        """Score one test net over its `test_iter` passes; None if a stop was requested meanwhile.

        Raises:
            SolverError: the net's outputs do not fit `eval_type`.
        """
        net, passes = self.test_nets[index], self.param.test_iter[index]
        score = Score(self.param, net)
        score.testing_line.write(iteration=self.iter, index=index)
        for name in self.net.layer_names:
            if name not in net.layer_names:
                log.NOT_SHARED.write(name=name)
        for done in range(passes):
            self._act_outside_updates()
            if self.stopped_early:
                log.TEST_INTERRUPTED.write()
                return None
            score.add(self.forward(net))
            for observer in self.observers:
                observer.on_test_batch(index, done + 1, passes)
        result = score.result(iteration=self.iter, index=index)
        score.write(result)
        for observer in self.observers:
            observer.on_test(result)
        return result

    def _act_outside_updates(self) -> None:
        while (action := self.action_source()) is not Action.NONE:
            if action is Action.SNAPSHOT:
                self.snapshot()
            else:
                self.stopped_early = True
                return

    # Snapshots -----------------------------------------------------------------------------------

    def snapshot(self) -> tuple[str, str]:
        """Write the weights, then the state; both files appear whole or not at all.

        Returns:
            The paths of the model and of the state.

        Raises:
            DivergedError: a number is not finite; nothing is written.
            FileError: a file cannot be written.
        """
        model, _ = snapshot_paths(self.param, self.iter)
        state = SavedState(
            iteration=self.iter,
            learned_net=model,
            history=self.updater.saved_history(),
            schedule=self.schedule,
            origin=self._origin(),
        )
        self.watchdog.read()
        paths = write_snapshot(self.param, self.net, state)
        self.watchdog.newest_snapshot = paths[1]
        for observer in self.observers:
            observer.on_snapshot(self.iter, paths)
        return paths

    def restore(self, path: str | Path, *, strict: bool = False) -> None:
        """Go on from a state file; the solver is unchanged if that fails.

        Args:
            path: the state; its weights are looked for where it says, then beside it.
            strict: refuse changed settings rather than warn of them.

        Raises:
            CaffeError: see `restore_snapshot`.
        """
        log.RESTORING.write()
        # The other devices have settings of their own; the root speaks for all.
        origin = self._origin() if self.runtime.rank == 0 else None
        state = restore_snapshot(path, self.net, self.updater, origin, strict=strict)
        self.iter = state.iteration
        self.watchdog.newest_snapshot = str(path)
        self.schedule = state.schedule
        if not self.restart_data:
            self._seek()

    def _origin(self) -> SnapshotOrigin:
        devices = self.runtime.world_size
        return make_origin(self.param, self.net, devices=devices, options=self.options)

    def _seek(self) -> None:
        """Put every data layer where an uninterrupted run would have it."""
        param = self.param
        self.net.seek(self.iter * param.iter_size)
        if param.test_interval > 0:
            tests = -(-self.iter // param.test_interval)  # the one due now has not run yet
            tests -= self.iter > 0 and not param.test_initialization
            for net, passes in zip(self.test_nets, param.test_iter, strict=True):
                net.seek(tests * passes)
