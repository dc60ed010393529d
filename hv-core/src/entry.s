# Entry from the loader: 64-bit mode, interrupts off, RDI = boot record (in the direct map), RSI = topmost table of the final page
# tables. The early tables show this code where the final ones do. Calls core_main(record) on the core's stack.

.section .text.core_entry, "ax"
.code64
.global core_entry
core_entry:
    cli
    cld
    mov cr3, rsi
    mov rsp, offset __stack_top
    xor ebp, ebp
    call core_main
    ud2
