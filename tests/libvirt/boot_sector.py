# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests of one sector, for tests in which what a guest does hardly matters.

Where processors are emulated, the smallest kernel takes seconds to boot, at a test's
expense, and these none.
"""

# Write "up" to the first serial line, and halt: it hears nothing any more.
_HALTING = bytes.fromhex("ba f803 b0 75 ee b0 70 ee b0 0a ee fa f4 eb fd")

# Write TEXT to the first serial line and wait for the power button, as Intel's chip sets
# and so QEMU's machines have it: I/O ports 600, 602 and 604 (hexadecimal), where the BIOS
# puts them, are what happened, what is told, and what state is wanted.
_BUTTON = bytes.fromhex(
    "31 c0 8e d8"  #     xor ax, ax; mov ds, ax
    "be 2e7c fc"  #      mov si, text (behind all this); cld
    "ba f803"  #         mov dx, the first serial line
    "ac 84 c0 74 03"  #  next: lodsb; test al, al; jz done
    "ee eb f8"  #        out dx, al; jmp next
    "ba 0206 b8 0001"  # done: mov dx, 602; mov ax, the power button
    "ef ba 0006 fb"  #   out dx, ax; mov dx, 600; sti
    "f4 ed f6 c4 01"  #  wait: hlt (for the clock); in ax, dx; test ah, 1
    "74 f9"  #           jz wait
    "ba 0406 b8 0020"  # mov dx, 604; mov ax, off
    "ef eb fe"  #        out dx, ax; jmp here
)

# Write "up" to the first serial line, then a sector in each 64 KiB of the first disk, by the
# BIOS, to its end, and halt.
_FILLING = bytes.fromhex(
    "31 c0 8e d8"  #        xor ax, ax; mov ds, ax
    "ba f803 b0 75 ee b0 70 ee b0 0a ee fb"
    "be 407c b8 0043"  # next: mov si, packet; mov ax, write
    "b2 80 cd 13"  #        mov dl, the first disk; int 13
    "72 0b"  #              jc done
    "66 81 06 487c 80000000"  # add its number in packet, 80
    "eb e9"  #              jmp next
    "fa f4 eb fd"  #        done
).ljust(0x40, b"\0") + bytes.fromhex(
    "1000 0100 007c 0000 8000000000000000"  # packet: one sector from here, to number 80
)

# Write "up" to the first serial line, and tell QEMU's pvpanic device, if there is one, that
# the kernel panicked.
_PANICKING = bytes.fromhex(
    "ba f803 b0 75 ee b0 70 ee b0 0a ee"
    "ba 0505 b0 01 ee"  # mov dx, 505; mov al, panicked; out dx, al
    "fa f4 eb fd"
)


def on_disk(sector: bytes) -> bytes:
    """Return a disk of 16 MiB that begins with SECTOR."""
    return sector.ljust(16 * 1024**2, b"\0")


def halting() -> bytes:
    """Return the sector of a guest that writes "up" to its console, and hears nothing."""
    return _sector(_HALTING)


def filling() -> bytes:
    """Return the sector of a guest that says "up", and writes all over its disk."""
    return _sector(_FILLING)


def panicking() -> bytes:
    """Return the sector of a guest that says "up", and then that it panicked."""
    return _sector(_PANICKING)


def heeding_button(text: str) -> bytes:
    """Return the sector of a guest that shows TEXT, and is off when its button is pressed."""
    return _sector(_BUTTON + text.encode() + b"\0")


def _sector(program: bytes) -> bytes:
    assert len(program) <= 510
    return program.ljust(510, b"\0") + b"\x55\xaa"


def halting_kernel() -> bytes:
    """Return what QEMU takes for a Linux (its documentation, arch/x86/boot.rst), and halts."""
    kernel = bytearray(4 * 512)
    kernel[0x1F1] = 1  # sectors that follow and run in real mode
    kernel[0x200:0x202] = b"\xfa\xf4"  # cli, hlt
    kernel[0x202:0x206] = b"HdrS"
    kernel[0x206:0x208] = (0x0202).to_bytes(2, "little")  # the version of that
    kernel[0x211] = 1  # the rest goes to high memory
    return bytes(kernel)
