// Registers a CUDA device guard and hooks that own no device, so that a CPU build of PyTorch lets
// tensors say that they lie on one. See simulated_device.py.
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <cstdlib>

namespace {

c10::DeviceIndex number_of_devices() {
  const char* text = std::getenv("SIMULATED_DEVICES");
  return static_cast<c10::DeviceIndex>(text ? std::atoi(text) : 1);
}

c10::Device device(c10::DeviceIndex index) {
  return {c10::DeviceType::CUDA, index < 0 ? c10::DeviceIndex(0) : index};
}

c10::Stream stream(c10::DeviceIndex index) {
  return c10::Stream(c10::Stream::DEFAULT, device(index));
}

// Everything is done when it is asked for, so there is nothing to wait for or to switch.
struct Guard final : c10::impl::NoOpDeviceGuardImpl<c10::DeviceType::CUDA> {
  c10::DeviceIndex deviceCount() const noexcept override { return number_of_devices(); }
  c10::Device getDevice() const override { return device(0); }
  c10::Device exchangeDevice(c10::Device) const override { return device(0); }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device d) const noexcept override { return stream(d.index()); }
  c10::Stream getDefaultStream(c10::Device d) const override { return stream(d.index()); }
  c10::Stream getNewStream(c10::Device d, int) const override { return stream(d.index()); }
  c10::Stream getStreamFromGlobalPool(c10::Device d, bool) const override {
    return stream(d.index());
  }
  c10::Stream exchangeStream(c10::Stream s) const noexcept override { return s; }
  void record(void**, const c10::Stream&, const c10::DeviceIndex,
              const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override {}
  void destroyEvent(void*, const c10::DeviceIndex) const noexcept override {}
};

struct Hooks final : at::CUDAHooksInterface {
  explicit Hooks(at::CUDAHooksArgs) {}
  void init() const override {}
  bool hasCUDA() const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(at::DeviceIndex) const override { return true; }
  at::DeviceIndex deviceCount() const override { return number_of_devices(); }
  int getNumGPUs() const override { return number_of_devices(); }
  at::DeviceIndex current_device() const override { return 0; }
  at::DeviceIndex getCurrentDevice() const override { return 0; }
  at::DeviceIndex exchangeDevice(at::DeviceIndex) const override { return 0; }
  void setCurrentDevice(at::DeviceIndex) const override {}
  bool hasCuDNN() const override { return false; }
  bool compiledWithCuDNN() const override { return false; }
};

}  // namespace

namespace at {
C10_REGISTER_CLASS(CUDAHooksRegistry, CUDAHooks, Hooks)
}

extern "C" void register_guard() {
  const auto place = static_cast<int>(c10::DeviceType::CUDA);
  c10::impl::device_guard_impl_registry[place].store(new Guard());
}
