# Both Pythons read this; Python 2 is meant, as the file's neighbours are.
total = 0
for images in (32, 30):
    total += images / 8
print(total)
