# SPDX-License-Identifier: GPL-3.0-or-later
#
# What every recipe starts with.  Recipes find in their environment: $out,
# $debian (names of Debian packages), and their inputs; most have $runtime, the
# store item with the C library.
set -e
export PATH=/usr/bin:/usr/sbin LC_ALL=C
unset GCONV_PATH LOCPATH
system=/usr/lib/x86_64-linux-gnu
# The C library that programs get: the runtime's, or one's own.
base=${runtime:-$out}

# libraries FILE...: copy the shared libraries that the FILEs need, and that
# the runtime has not, to $out/lib.
libraries () {
    local library name
    mkdir -p $out/lib
    for library in $(ldd "$@" 2>/dev/null |
                         sed -n -e 's|.*=> \(/[^ ]*\) .*|\1|p' \
                             -e 's|^[[:space:]]*\(/[^ ]*\) (.*|\1|p' | sort -u)
    do
        name=${library##*/}
        [ -e $base/lib/$name ] || [ -e $out/lib/$name ] || {
            cp -L $library $out/lib/$name
            chmod 755 $out/lib/$name
        }
    done
}

# relocate FILE...: have these programs, copies of Debian's, use the libraries
# of the store.  An RPATH, unlike a RUNPATH, also holds for the libraries that
# libraries load.
relocate () {
    patchelf --set-interpreter $base/lib/ld-linux-x86-64.so.2 \
             --force-rpath --set-rpath $out/lib${runtime:+:$runtime/lib} "$@"
}

is_elf () {
    [ "$(head -c 4 $1 | tail -c 3)" = ELF ]
}

# program SOURCE [TARGET]: copy a program, ELF or shell script, to
# $out/bin/NAME or TARGET.  Programs in other languages are left out: the
# images have no interpreter for them.
program () {
    local source target
    source=$1
    target=${2:-$out/bin/${1##*/}}
    mkdir -p ${target%/*}
    if is_elf $source; then
        cp -L $source $target
        chmod 755 $target
        libraries $source
        relocate $target
    else
        case $(head -n 1 $source) in
            '#!'*/sh | '#!'*/sh\ * | '#!'*/bash | '#!'*/bash\ *)
                { echo "#!$base/bin/sh"; tail -n +2 $source; } > $target
                chmod 755 $target ;;
        esac
    fi
}

# programs PACKAGE...: copy all programs of these Debian packages.
programs () {
    local elves file name target
    mkdir -p $out/bin
    elves=
    for file in $(dpkg -L "$@" | grep -E '/s?bin/[^/]+$' | sort -u); do
        name=${file##*/}
        target=$(readlink $file || :)
        case "$elves " in */$name\ *) continue ;; esac
        if [ -e $out/bin/$name ]; then
            :
        elif [ -n "$target" ] && [ "$target" = "${target##*/}" ]; then
            ln -s $target $out/bin/$name
        elif is_elf $file; then
            elves="$elves $file"
        else
            program $file
        fi
    done
    # All at once: one by one takes several times as long.
    if [ -n "$elves" ]; then
        cp -L $elves $out/bin/
        libraries $elves
        for file in $elves; do
            chmod 755 $out/bin/${file##*/}
            echo $out/bin/${file##*/}
        done > copies
        relocate $(cat copies)
    fi
    [ -e $out/sbin ] || ln -s bin $out/sbin
}

# debian_tool NAME...: scripts that run Debian's program in its place.  Only
# for programs that builds run: such a package is of no use in an image.
debian_tool () {
    local name tool
    mkdir -p $out/bin
    for name; do
        tool=$(command -v $name)
        cat > $out/bin/$name <<EOT
#!/bin/sh
unset GCONV_PATH LOCPATH
PATH=\$PATH:/usr/bin:/usr/sbin; export PATH
exec $tool "\$@"
EOT
        chmod 555 $out/bin/$name
    done
    [ -e $out/sbin ] || ln -s bin $out/sbin
}

# from_runtime NAME...: link programs of the runtime.
from_runtime () {
    local name
    mkdir -p $out/bin
    for name; do
        ln -s $runtime/bin/$name $out/bin/$name
    done
    [ -e $out/sbin ] || ln -s bin $out/sbin
}

# with_pam: have the programs that follow use the libpam of the input $pam.
with_pam () {
    local library
    mkdir -p $out/lib
    for library in $pam/lib/libpam*; do
        ln -s $library $out/lib/${library##*/}
    done
}
