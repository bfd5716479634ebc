#!/bin/sh
# Removes from the packages of the image what no service runs: tests, sources and headers of extensions, source maps, Arrow's
# network service, a notebook's widget, and the symbols of the largest libraries. Used by the Dockerfile: slim.sh SITE-PACKAGES
set -eu
cd "$1"
find . -depth -type d -name tests -exec rm -rf {} +
find . -type f \( -name '*.map' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.pxi' -o -name '*.pyi' \
    -o -name '*.c' -o -name '*.h' -o -name '*.hpp' \) -delete
rm -rf pydeck/nbextension/static pyarrow/include pyarrow/src pyarrow/*flight*
# Not those that a wheel carries in a folder of its own (*.libs), whose layout strip may break.
for library in _polars_runtime_32/*.so pyarrow/*.so* uvloop/*.so; do
    if [ -f "$library" ]; then strip --strip-unneeded "$library"; fi
done
