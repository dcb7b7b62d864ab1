#!/bin/sh
# Installs the C library the way C libraries are: headers, shared library with SONAME and links,
# static library, pkg-config file, CMake package, licences. All of it can be moved with its prefix.
#
#   ffi/install.sh install|uninstall PREFIX
#
# Environment: DESTDIR (a staging root in front of all), LIBDIR (default PREFIX/lib),
# CARGO_TARGET_DIR (default target). The macOS names have not been run.
set -eu

usage() {
  echo "usage: [DESTDIR=DIR] [LIBDIR=DIR] $0 install|uninstall PREFIX" >&2
  exit 2
}

absolute() {
  case $1 in
    /*) printf '%s\n' "$1" ;;
    *) printf '%s\n' "$PWD/$1" ;;
  esac
}

[ $# -eq 2 ] && [ -n "$2" ] || usage
action=$1
prefix=$(absolute "$2")
[ "$prefix" = / ] || prefix=${prefix%/}
libdir=$(absolute "${LIBDIR:-$prefix/lib}")
libdir=${libdir%/}
destdir=${DESTDIR:+$(absolute "$DESTDIR")}

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
target=${CARGO_TARGET_DIR:-target}
case $target in
  /*) built=$target/release ;;
  *) built=$root/$target/release ;;
esac

version=$(awk '/^\[/ { here = $0 == "[workspace.package]" }
  here && /^version *=/ { gsub(/^[^"]*"|".*$/, ""); print }' "$root/Cargo.toml")
[ -n "$version" ] || { echo "$0: no [workspace.package] version in $root/Cargo.toml" >&2; exit 1; }
major=${version%%.*}
series=$major
[ "$major" -gt 0 ] || series=${version%.*}

if [ "$(uname -s)" = Darwin ]; then
  artifact=libwsabi_ffi.dylib
  file=libwsabi.$version.dylib
  soname=libwsabi.$major.dylib
  link=libwsabi.dylib
  cmake_soname=@rpath/$soname
  libs_private='-lSystem -lc -lm'
else
  artifact=libwsabi_ffi.so
  file=libwsabi.so.$version
  soname=libwsabi.so.$major
  link=libwsabi.so
  cmake_soname=$soname
  libs_private='-lgcc_s -lutil -lrt -lpthread -lm -ldl -lc'
fi

include_to=$destdir$prefix/include
lib_to=$destdir$libdir
cmake_to=$lib_to/cmake/wsabi
doc_to=$destdir$prefix/share/doc/wsabi

# The newest of what the library is made of decides, so that installing as another user does not
# need that user to have cargo.
build() {
  if [ -f "$built/$artifact" ] && [ -f "$built/libwsabi_ffi.a" ]; then
    newer=$(find "$root/Cargo.toml" "$root/Cargo.lock" "$root/core/Cargo.toml" "$root/core/src" \
      "$root/ffi/Cargo.toml" "$root/ffi/build.rs" "$root/ffi/src" -type f -newer "$built/$artifact" | head -n 1)
    [ -n "$newer" ] || return 0
  fi
  (cd "$root" && cargo build --release -p wsabi-ffi)
}

# "../.." from a folder below libdir, $1 levels deep, up to the prefix; nothing if libdir lies elsewhere.
up_to_prefix() {
  case $libdir/ in
    "$prefix"/*) ;;
    *) return 0 ;;
  esac
  below=${libdir#"$prefix"}
  up=
  levels=$(($1 + $(printf '%s' "$below" | tr -cd / | wc -c)))
  while [ "$levels" -gt 0 ]; do
    up=$up/..
    levels=$((levels - 1))
  done
  printf '%s\n' "${up#/}"
}

fill() {
  sed -e "s|@VERSION@|$version|g" -e "s|@SERIES@|$series|g" \
    -e "s|@PC_PREFIX@|$pc_prefix|g" -e "s|@PC_LIBDIR@|$pc_libdir|g" \
    -e "s|@LIBS_PRIVATE@|$libs_private|g" -e "s|@CMAKE_LIBS_PRIVATE@|$cmake_libs|g" \
    -e "s|@CMAKE_INCLUDE@|$cmake_include|g" \
    -e "s|@SHARED_FILE@|$file|g" -e "s|@SHARED_SONAME@|$cmake_soname|g" \
    "$root/ffi/packaging/$1.in" >"$2/$1"
  chmod 644 "$2/$1"
}

install_libraries() {
  install -m 755 "$built/$artifact" "$lib_to/$file"
  ln -sf "$file" "$lib_to/$soname"
  ln -sf "$soname" "$lib_to/$link"
  install -m 644 "$built/libwsabi_ffi.a" "$lib_to/libwsabi.a"
  if [ "$(uname -s)" = Darwin ]; then
    install_name_tool -id "@rpath/$soname" "$lib_to/$file"
    strip -S "$lib_to/libwsabi.a"
  else
    strip --strip-debug "$lib_to/libwsabi.a"
  fi
}

install_packages() {
  up=$(up_to_prefix 1)
  if [ -n "$up" ]; then
    pc_prefix="\${pcfiledir}/$up"
    pc_libdir="\${prefix}${libdir#"$prefix"}"
    cmake_include="\${CMAKE_CURRENT_LIST_DIR}/$(up_to_prefix 2)/include"
  else
    pc_prefix=$prefix
    pc_libdir=$libdir
    cmake_include=$prefix/include
  fi
  cmake_libs=$(printf '%s' "$libs_private" | sed -e 's/-l//g' -e 's/ /;/g')
  fill wsabi.pc "$lib_to/pkgconfig"
  fill wsabiConfig.cmake "$cmake_to"
  fill wsabiConfigVersion.cmake "$cmake_to"
}

case $action in
  install)
    build
    install -d "$include_to" "$lib_to/pkgconfig" "$cmake_to" "$doc_to"
    install -m 644 "$root/include/wsabi.h" "$root/include/wsabi.hpp" "$include_to/"
    install_libraries
    install_packages
    install -m 644 "$root/LICENSE-MIT" "$root/LICENSE-APACHE" "$doc_to/"
    echo "wsabi $version is in $destdir$prefix"
    ;;
  uninstall)
    rm -f "$include_to/wsabi.h" "$include_to/wsabi.hpp" \
      "$lib_to/$link" "$lib_to"/libwsabi.so.* "$lib_to"/libwsabi.*.dylib "$lib_to/libwsabi.a" \
      "$lib_to/pkgconfig/wsabi.pc" \
      "$cmake_to/wsabiConfig.cmake" "$cmake_to/wsabiConfigVersion.cmake" \
      "$doc_to/LICENSE-MIT" "$doc_to/LICENSE-APACHE"
    # The folders of its own; those it shares stay.
    for folder in "$cmake_to" "$doc_to"; do
      [ ! -d "$folder" ] || rmdir "$folder"
    done
    echo "wsabi is no longer in $destdir$prefix"
    ;;
  *) usage ;;
esac
