# Losses out of a log.
import re, string, sys

pattern = re.compile(r'Iteration (\d+), loss = ([\d.]+)')
rows = []
for line in open(sys.argv[1]):
    m = pattern.search(line)
    if m:
        rows.append(map(string.atof, m.groups()) if hasattr(string, 'atof') else map(float, m.groups()))
rows.sort(lambda a, b: cmp(a[1], b[1])) if False else rows.sort(key=lambda r: r[1])
total = reduce(lambda a, b: a + b[1], rows, 0)
print "best: iteration %d" % rows[0][0], unicode('of'), len(rows)
print `int(total)`, 0777, 10L / 4
exec "spread = rows[-1][1] - rows[0][1]"
print spread
