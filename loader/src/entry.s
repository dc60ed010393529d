# Entry from GRUB (multiboot2, section 3.3): 32-bit protected mode, paging off, EAX = magic, EBX = boot information.
# Builds tables that map the lowest 4 GiB at 0 and at the direct map; switches to long mode; calls
# boot_main(magic, information) on the loader's stack.

.section .multiboot2, "a"
.balign 8
header_start:
    .long 0xe85250d6                            # magic, architecture i386, length, checksum
    .long 0
    .long header_end - header_start
    .long -(0xe85250d6 + (header_end - header_start))
    # Information request (1): without the memory map (6) there is nothing to do.
    .short 1, 0
    .long 12
    .long 6
    .balign 8
    # Console flags (4): EGA text is supported (bit 1).
    .short 4, 0
    .long 12
    .long 2
    .balign 8
    # Framebuffer (5), optional (bit 0 of the flags): the size and the bits of a pixel that are preferred. Where there is
    # text, `set gfxpayload=text` in GRUB's configuration keeps it.
    .short 5, 1
    .long 20
    .long 1024
    .long 768
    .long 32
    .balign 8
    # Module alignment (6): modules start at page boundaries.
    .short 6, 0
    .long 8
    .balign 8
    # End (0).
    .short 0, 0
    .long 8
header_end:

.section .boot, "ax"
.code32
.global boot_entry
boot_entry:
    cli
    cld
    mov edi, eax                                # first argument of boot_main
    mov esi, ebx                                # second
    mov esp, offset boot_scratch_end

    # Long mode? Without it there is nothing that the rest could run on, so the message is said from here.
    mov eax, 0x80000000
    cpuid
    cmp eax, 0x80000001
    jb no_long_mode
    mov eax, 0x80000001
    cpuid
    bt edx, 29
    jnc no_long_mode
    bt edx, 20                                  # no-execute
    jnc no_long_mode

    # PML4: 0 and 256 -> the lowest 4 GiB. Through 511 the core is seen, once it lies in its place.
    mov eax, offset boot_pdpt_low + 3
    mov dword ptr [boot_pml4], eax
    mov dword ptr [boot_pml4 + 256 * 8], eax
    mov eax, offset boot_pd + 3
    xor ecx, ecx
1:  mov dword ptr [boot_pdpt_low + ecx * 8], eax
    add eax, 4096
    inc ecx
    cmp ecx, 4
    jb 1b
    mov eax, 0x83                               # present, writable, 2 MiB
    xor ecx, ecx
2:  mov dword ptr [boot_pd + ecx * 8], eax
    add eax, 0x200000
    inc ecx
    cmp ecx, 2048
    jb 2b

    mov eax, cr4
    or eax, 0x20                                # PAE
    mov cr4, eax
    mov eax, offset boot_pml4
    mov cr3, eax
    mov ecx, 0xc0000080                         # EFER: LME, NXE
    rdmsr
    or eax, 0x900
    wrmsr
    mov eax, cr0
    or eax, 0x80010001                          # PG, WP, PE
    and eax, 0x9fffffff                         # caches on
    mov cr0, eax
    lgdt [boot_gdt_pointer]
    # A far return rather than a far jump: the assembler's syntax for the latter is a matter of taste.
    mov eax, 8
    push eax
    mov eax, offset boot_long
    push eax
    retf

no_long_mode:
    mov dx, 0x3fb                               # COM1: 115200 8N1
    mov al, 0x83
    out dx, al
    mov dx, 0x3f8
    mov al, 1
    out dx, al
    inc edx
    xor eax, eax
    out dx, al
    mov dx, 0x3fb
    mov al, 3
    out dx, al
    mov esi, offset no_long_mode_text
    mov edi, 0xb8000
3:  movzx eax, byte ptr [esi]
    test al, al
    jz 5f
    mov ah, 0x4f
    mov word ptr [edi], ax
    add edi, 2
    mov bl, al
    mov ecx, 0x100000                           # wait for the transmitter, but not for ever
    mov dx, 0x3fd
4:  in al, dx
    test al, 0x20
    loopz 4b
    mov al, bl
    mov dx, 0x3f8
    out dx, al
    inc esi
    jmp 3b
5:  hlt
    jmp 5b

.code64
boot_long:
    mov ax, 16
    mov ds, ax
    mov es, ax
    mov ss, ax
    xor eax, eax
    mov fs, ax
    mov gs, ax
    lgdt [boot_gdt_pointer_high]
    mov rsp, offset __stack_top
    xor ebp, ebp
    mov edi, edi
    mov esi, esi
    mov rax, offset boot_main
    call rax
    ud2

.balign 8
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff                    # 64-bit code
    .quad 0x00cf93000000ffff                    # data
boot_gdt_pointer:
    .short 23
    .long boot_gdt
.balign 8
boot_gdt_pointer_high:
    .short 23
    .quad boot_gdt + 0xffff800000000000         # the direct map stays
no_long_mode_text:
    .asciz "\r\nFATAL F001: this processor has no 64-bit mode with no-execute pages - use an x86-64 machine with VT-x and switch 'execute disable' on in its firmware\r\n"

.section .boottables, "aw", @nobits
.balign 4096
boot_pml4:
    .skip 4096
boot_pdpt_low:
    .skip 4096
boot_pd:
    .skip 4 * 4096
boot_scratch:
    .skip 256
boot_scratch_end:
