# Programs and a library of Debian built for x86-64-v3, for the root that has them. Sourced after debian.sh, not run. They are made
# of Debian's source packages by this machine's compiler; nothing of them is executed here but their own configuration, so the
# processor need not be one.

# The shell that a login starts, and a library that others map, for the directory that the C library looks in first at that level.
REBUILT_SOURCES="bzip2 bash"
# -mneeded has the assembler note what code asks for, so that the C library refuses to start it on less.
REBUILT_FLAGS="-O3 -march=x86-64-v3 -Wa,-mx86-used-note=yes -mneeded"
REBUILT_LIBRARIES=usr/lib/x86_64-linux-gnu/glibc-hwcaps/x86-64-v3

# rebuilt_make DIR: fetches the sources into DIR, an apt root, and builds them
rebuilt_make() {
  local cc=x86_64-linux-gnu-gcc
  # shellcheck disable=SC2086
  cd "$1" && export APT_CONFIG=$1/apt.conf && apt-get -qq update && apt-get -qq source $REBUILT_SOURCES &&
    make -C bzip2-*/ -f Makefile-libbz2_so CC=$cc CFLAGS="-fPIC -D_FILE_OFFSET_BITS=64 $REBUILT_FLAGS" &&
    cd bash-*/ && ./configure --host=x86_64-linux-gnu --without-bash-malloc --disable-nls CC=$cc CFLAGS="$REBUILT_FLAGS" && make -j2 bash
}

# rebuilt_install ROOT: puts them into a root that has Debian's own
rebuilt_install() {
  local place
  place=$(mktemp -d "$STELE_CACHE/rebuilt.XXXXXX")
  debian_apt_root "$place" amd64
  sed -i 's/^deb \(.*\)/&\ndeb-src \1/' "$place/sources.list"
  (rebuilt_make "$place") >"$place/log" 2>&1 || { tail -n 30 "$place/log" >&2; die "building for x86-64-v3 failed: $place/log"; }
  mkdir -p "$1/$REBUILT_LIBRARIES"
  cp "$place"/bzip2-*/libbz2.so.1.0.* "$1/$REBUILT_LIBRARIES/libbz2.so.1.0"
  cp "$place"/bash-*/bash "$1/usr/bin/bash"
  chroot "$1" ldconfig # which library the loader finds for which level stands in its cache
  rm -rf "$place"
}
