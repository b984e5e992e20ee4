#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Usage: check.sh WHAT SOURCE_DIR BUILD_DIR VERSION
# `stage` installs the build and moves the result, so that no test can lean on where it was; the rest use what it left.
set -euo pipefail
what=$1 source=$2 build=$3 version=$4
scratch=$build/tests/install/scratch
prefix=$scratch/moved
libdir=$(dirname "$(find "$prefix" -name 'libcrossdock.*' 2>/dev/null | head -1)")
export LD_LIBRARY_PATH=$libdir PKG_CONFIG_PATH=$libdir/pkgconfig

configure_build_test() {  # of a project of its own, with nothing but the installed package to lean on
  cmake -S "$1" -B "$2" -G Ninja -DCMAKE_PREFIX_PATH="$prefix"
  cmake --build "$2"
  ctest --test-dir "$2" --output-on-failure --no-tests=error
}

says_version() {
  local said
  said=$("$@")
  [[ $said == *"$version"* ]] || { echo "expected version $version from $*, got: $said" >&2; return 1; }
}

case $what in
  stage)
    rm -rf "$scratch"
    cmake --install "$build" --prefix "$scratch/first"
    mv "$scratch/first" "$prefix"
    ;;
  symbols)  # of what is shipped: fibers belong to the tests
    for library in "$libdir"/libcrossdock*; do
      names=$(nm -C "$library")
      [[ $names == *crossdock::* ]] || { echo "$library has no symbols to check; install it without stripping" >&2; exit 1; }
      if grep -i fiber <<< "$names"; then echo "$library has symbols of fibers; they belong in tests/fiber" >&2; exit 1; fi
    done
    ;;
  find_package)
    configure_build_test "$source/tests/install/consumer" "$scratch/consumer"
    ;;
  pkg_config)
    [[ $(pkg-config --modversion crossdock) == "$version" ]]
    read -ra flags <<< "$(pkg-config --cflags --libs crossdock)"
    g++ -std=c++20 -Wall -Wextra -Werror "$source/tests/install/consumer/main.cpp" "${flags[@]}" -o "$scratch/pc_cpp"
    says_version "$scratch/pc_cpp"
    ;;
  pkg_config_c)
    read -ra flags <<< "$(pkg-config --cflags --libs crossdock)"
    gcc -std=c11 -Wall -Wextra -Werror "$source/tests/install/consumer/main.c" "${flags[@]}" -o "$scratch/pc_c"
    says_version "$scratch/pc_c"
    ;;
  command)
    unset LD_LIBRARY_PATH  # the command finds its library by itself
    says_version "$prefix/bin/crossdock" --version
    ;;
  plugin)
    unset LD_LIBRARY_PATH CROSSDOCK_PLUGIN_DIR  # it lies beside the library
    said=$("$prefix/bin/crossdock" doctor | grep -E '^ +hip ')
    [[ $said == *"device(s)"* && $said != *libcrossdock_hip* ]] || { echo "the plug-in was not found: $said" >&2; exit 1; }
    ;;
  examples)
    configure_build_test "$source/examples" "$scratch/examples"
    ;;
  *)
    echo "check.sh: unknown test: $what" >&2
    exit 2
    ;;
esac
