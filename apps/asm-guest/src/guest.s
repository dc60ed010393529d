# A guest without a library, written from docs/virtual-architecture.md. It says who it is, checks that the virtual
# architecture is as documented, and ends with code 42. A check that fails ends it with 100 and
# the check's number.
#
# Syntax: Intel. Registers: r14 holds the address of the register page, r15 counts the checks; both are left alone by
# everything else.

# ---- Numbers of the virtual architecture -------------------------------------------------------------------------------

# Register page: offsets.
.set MAGIC,               0
.set ABI_VERSION,         8
.set SEQUENCE,           12
.set VM_ID,              16
.set GENERATION_ID,      24
.set MEMORY_BYTES,       40
.set RESERVE_FRAMES,     48
.set LIMIT_FRAMES,       52
.set HELD_FRAMES,        56
.set BOOT_ARGS_LEN,      60
.set TSC_HZ,             64
.set NS_PER_TICK,        72
.set CLOCK_TSC,          80
.set NIC_PAGE,           96
.set CONSOLE_SLOTS,     144
.set CONTROL_PAGE,      152
.set UPCALL_ENTRY,      160
.set UPCALL_STACK,      168
.set FAULT_ENTRY,       176
.set FAULT_STACK,       184
.set ENABLED,           192
.set UPCALLS_ON,        200
.set IN_FAULT,          204
.set PENDING,           208
.set ALARM,             216
.set UPCALL_RIP,        224
.set UPCALL_RSP,        232
.set UPCALL_RFLAGS,     240
.set UPCALL_RAX,         248
.set FAULT_RIP,          256
.set FAULT_RSP,          264
.set FAULT_RFLAGS,       272
.set FAULT_RAX,          280
.set FAULT_VECTOR,       288
.set FAULT_ERROR,        292
.set FAULT_ADDRESS,      296
.set BOOT_ARGS,        1024
.set CONSOLE,          2048

# Ring header, and where the slots of a console begin.
.set RING_TAIL,           0
.set RING_PRODUCER_WAITS, 8
.set RING_HEAD,          64
.set RING_CONSUMER_WAITS, 72
.set RING_EPOCH,        128
.set RING_SLOTS,        256

# Hypercalls.
.set NOP_CALL,            0
.set IDLE,                1
.set EXIT,                2
.set KICK,                3
.set SET_ALARM,           4
.set UPCALL_RETURN,       5
.set FAULT_RETURN,        6
.set GIVE_BACK,           7
.set TAKE,                8
.set ERROR_UNKNOWN,      -1
.set ERROR_ARGUMENT,     -2
.set ERROR_STATE,        -3

# Devices, pending bits.
.set DEVICE_NIC,          0
.set DEVICE_CONSOLE,      1
.set PENDING_ALARM,       1
.set PENDING_IDENTITY,    8

# Kinds of faults beside the vectors of x86, and classes of refused instructions.
.set REFUSED,         0x100
.set BAD_ADDRESS,     0x101
.set NULL_POINTER,    0x102
.set GUARD,           0x103
.set BAD_RIGHTS,      0x104
.set READ,                0
.set WRITE,               1
.set EXECUTE,             2
.set CLASS_CPUID,         1
.set CLASS_MSR,           2
.set CLASS_PORT,          3
.set CLASS_CONTROL,       4
.set CLASS_DESCRIPTOR,    5
.set CLASS_DEBUG,         6
.set CLASS_OTHER,         7

# NIC page.
.set NIC_MAC,             0
.set NIC_RX_SLOTS,        8
.set NIC_TX_SLOTS,       12
.set NIC_MAX_FRAME,      20
.set NIC_TX_FRAMES,      40
.set NIC_TX_DROP_MAC,    64
.set NIC_TX_DROP_FULL,   88
.set NIC_TX_RING,       512
.set NIC_RX_SLOTS_AT,  4096

.set PROBE_BYTES,        42     # the ARP question below

# ---- The note that says: a guest for version 2 -------------------------------------------------------------------------

.section .note.foraker, "a", @note
    .p2align 2
    .long 8                     # bytes of the name
    .long 8                     # bytes of the descriptor
    .long 1                     # type
    .ascii "Foraker\0"
    .long 2                     # ABI version
    .long 2                     # kind: guest

# ---- Helpers -----------------------------------------------------------------------------------------------------------

# The next check begins.
.macro check
    inc     r15d
.endm

# What the next instruction will do is a fault with this vector and error code; the guest goes on at \resume. Overwrites r11.
.macro expect_fault vector, error, resume
    lea     r11, [rip + \resume]
    mov     [fault_resume], r11
    mov     dword ptr [want_vector], \vector
    mov     dword ptr [want_error], \error
    mov     dword ptr [fault_count], 0
.endm

# The fault has happened once, as expected, and was raised at \at. Overwrites r11.
.macro require_fault at
    cmp     dword ptr [fault_count], 1
    jne     fail
    lea     r11, [rip + \at]
    cmp     [fault_at], r11
    jne     fail
.endm

# One instruction that is refused with this class.
.macro require_refused class, instruction:vararg
    check
    expect_fault REFUSED, \class, 92f
91:
    \instruction
92:
    require_fault 91b
.endm

# Text that was made with `line`, and an end of the line.
.macro say text
    lea     rsi, [\text + 1]
    movzx   ecx, byte ptr [\text]
    call    say_line
.endm

# The same without an end of the line.
.macro say_piece text
    lea     rsi, [\text + 1]
    movzx   ecx, byte ptr [\text]
    call    say_part
.endm

.section .rodata.guest, "a"
# A text with its length in front.
.macro line name, text:vararg
\name:
    .byte   8f - 7f
7:  .ascii  \text
8:
.endm
line hello,   "asm-guest: this is vm"
line dot,     "."
line on_mhz,  ", TSC at "
line mhz,     " MHz"
line args,    "asm-guest: boot arguments: "
line no_nic,  "asm-guest: no NIC, its check is left out"
line all,     "asm-guest: all "
line passed,  " checks passed"
line check_,  "asm-guest: check "
line failed,  " failed"
line holds,   "asm-guest: holds"
line awaits,  "asm-guest: awaits"
line goes_on, "asm-guest: goes on from a state, all as it was"
line strange, "asm-guest: a fault that nobody expected, vector "

# An ARP probe for 192.0.2.1, which is nobody's address: sender address 0.0.0.0, as everyone may ask. The two sender MACs
# are filled in.
probe:
    .byte   0xff, 0xff, 0xff, 0xff, 0xff, 0xff      # to everybody
    .byte   0, 0, 0, 0, 0, 0                        # from us
    .byte   0x08, 0x06                              # ARP
    .byte   0, 1, 0x08, 0, 6, 4, 0, 1               # Ethernet, IPv4, question
    .byte   0, 0, 0, 0, 0, 0                        # sender's MAC
    .byte   0, 0, 0, 0                              # sender's address: not known yet
    .byte   0, 0, 0, 0, 0, 0                        # target's MAC: not known
    .byte   192, 0, 2, 1                            # target's address

.section .data.guest, "aw"
    .p2align 3
initialised:    .quad 0x0123456789abcdef

# Below the stack the linker script leaves a guard.
.section .stack.guest, "aw", @nobits
    .p2align 12
stack_bottom:   .skip 4096
stack:

.section .bss.guest, "aw", @nobits
    .p2align 6
zeroed:         .skip 4096
upcall_bottom:  .skip 4096
upcall_stack:
fault_bottom:   .skip 4096
fault_stack:
console_tail:   .skip 4         # our index in the console ring, and the epoch that it belongs to
console_epoch:  .skip 4
upcall_count:   .skip 4
upcall_mask:    .skip 8
upcall_time:    .skip 8
fault_resume:   .skip 8         # 0: no fault is expected
fault_at:       .skip 8
fault_address:  .skip 8
want_vector:    .skip 4
want_error:     .skip 4
fault_count:    .skip 4
go:             .skip 4         # 1: whoever holds goes on
    .p2align 6
known_fx:       .skip 512       # what FXSAVE stores of the known state
found_fx:       .skip 512
known_ymm:      .skip 512
found_ymm:      .skip 512
found_general:  .skip 16        # RSP, RFLAGS
    .p2align 3
digits:         .skip 24

# ---- Start -------------------------------------------------------------------------------------------------------------

.section .text.guest, "ax"
.globl _start
_start:
    # RDI holds the address of the register page, nothing else is promised. There is no stack yet.
    mov     r14, rdi
    lea     rsp, [stack]
    xor     r15d, r15d
    # A fault from here on is ours to handle.
    lea     rax, [fault_entry]
    mov     [r14 + FAULT_ENTRY], rax
    lea     rax, [fault_stack]
    mov     [r14 + FAULT_STACK], rax

    call    greet
    call    hold_or_await
    call    check_registers
    call    check_memory
    call    check_hypercalls
    call    check_upcall
    call    check_idle
    call    check_faults
    call    check_refused
    call    check_nic

    say_piece all
    mov     eax, r15d
    call    say_number
    say     passed
    mov     eax, EXIT
    mov     edi, 42
    vmcall

# A check has failed: say which, and end with its number and 100.
fail:
    lea     rsp, [stack]
    say_piece check_
    mov     eax, r15d
    call    say_number
    say     failed
    mov     eax, EXIT
    lea     edi, [r15 + 100]
    vmcall

greet:
    say_piece hello
    mov     eax, [r14 + VM_ID]                    # slot in bits 31..0
    call    say_number
    say_piece dot
    mov     eax, [r14 + VM_ID + 4]                # generation in bits 63..32
    call    say_number
    say_piece on_mhz
    mov     rax, [r14 + TSC_HZ]
    xor     edx, edx
    mov     ecx, 1000000
    div     rcx
    call    say_number
    say     mhz
    # A line may take several slots.
    say_piece args
    lea     rsi, [r14 + BOOT_ARGS]
    mov     ecx, [r14 + BOOT_ARGS_LEN]
    cmp     ecx, 180
    jbe     say_line
    mov     ecx, 180
    jmp     say_line

# ---- On another machine ------------------------------------------------------------------------------------------------

# With `state=hold` among the boot arguments, put something known into every register and hold; with `state=await`, wait for the
# operator to let us go on from the state of one that holds, on whatever machine, and see whether all is as that one has left it. Nothing
# of our memory comes along: only what lies there differs in both, by which the one leaves the loop in which the other stays.
hold_or_await:
    mov     ecx, [r14 + BOOT_ARGS_LEN]
    lea     rsi, [r14 + BOOT_ARGS]
1:  cmp     ecx, 8
    jb      9f
    movabs  rax, 0x6f683d6574617473             # "state=ho"
    cmp     [rsi], rax
    je      hold
    movabs  rax, 0x77613d6574617473             # "state=aw"
    cmp     [rsi], rax
    je      await
    inc     rsi
    dec     ecx
    jmp     1b
9:  ret

await:
    call    put_vectors
    fxsave64 [known_fx]
    call    store_ymm
    lea     rsi, [found_ymm]
    lea     rdi, [known_ymm]
    mov     ecx, 64
    rep     movsq
    say     awaits
    # Something else.
    fninit
    mov     dword ptr [digits], 0x1f80
    ldmxcsr [digits]
.irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    pxor    xmm\n, xmm\n
.endr
    mov     dword ptr [go], 1
2:  mov     eax, IDLE
    mov     rdi, -1
    vmcall
    jmp     2b

hold:
    say     holds
    call    put_vectors
    # Known to whoever goes on: 1, FS and GS have bases; 2, there is AVX.
    call    features
    mov     r12d, eax
    test    r12d, 1
    jz      1f
    movabs  rax, 0x00001111f5f5f5f5
    wrfsbase rax
    movabs  rax, 0x0000222265656565
    wrgsbase rax
    swapgs
    movabs  rax, 0x0000333378787878
    wrgsbase rax
    swapgs
1:  movabs  rax, 0x0000444422222222
    mov     cr2, rax
    movabs  rbx, 0x02025a5a5a5a0202
    movabs  rdx, 0x03035a5a5a5a0303
    movabs  rsi, 0x04045a5a5a5a0404
    movabs  rdi, 0x05055a5a5a5a0505
    movabs  rbp, 0x06065a5a5a5a0606
    movabs  r8, 0x08085a5a5a5a0808
    movabs  r9, 0x09095a5a5a5a0909
    movabs  r10, 0x10105a5a5a5a1010
    movabs  r11, 0x11115a5a5a5a1111
    movabs  r13, 0x13135a5a5a5a1313
    movabs  r14, 0x14145a5a5a5a1414
    movabs  r15, 0x15155a5a5a5a1515
    push    0x8d7                               # CF, PF, AF, ZF, SF, OF
    popfq
    # RDI is a time that never comes. No flag is changed here.
2:  mov     eax, IDLE
    vmcall
    mov     ecx, [go]
    jrcxz   2b

    mov     [found_general], rsp
    lea     rsp, [stack]
    pushfq
    pop     qword ptr [found_general + 8]
    # Nothing was pending.
    test    rax, rax
    jnz     changed
    movabs  rcx, 0x02025a5a5a5a0202
    cmp     rbx, rcx
    jne     changed
    movabs  rcx, 0x03035a5a5a5a0303
    cmp     rdx, rcx
    jne     changed
    movabs  rcx, 0x04045a5a5a5a0404
    cmp     rsi, rcx
    jne     changed
    movabs  rcx, 0x05055a5a5a5a0505
    cmp     rdi, rcx
    jne     changed
    movabs  rcx, 0x06065a5a5a5a0606
    cmp     rbp, rcx
    jne     changed
    movabs  rcx, 0x08085a5a5a5a0808
    cmp     r8, rcx
    jne     changed
    movabs  rcx, 0x09095a5a5a5a0909
    cmp     r9, rcx
    jne     changed
    movabs  rcx, 0x10105a5a5a5a1010
    cmp     r10, rcx
    jne     changed
    movabs  rcx, 0x11115a5a5a5a1111
    cmp     r11, rcx
    jne     changed
    movabs  rcx, 0x13135a5a5a5a1313
    cmp     r13, rcx
    jne     changed
    movabs  rcx, 0x14145a5a5a5a1414
    cmp     r14, rcx
    jne     changed
    movabs  rcx, 0x15155a5a5a5a1515
    cmp     r15, rcx
    jne     changed
    # The address of this function's return lies on the stack of both.
    lea     rcx, [stack - 8]
    cmp     [found_general], rcx
    jne     changed
    mov     rcx, [found_general + 8]
    and     ecx, 0x8d5
    cmp     ecx, 0x8d5
    jne     changed
    mov     rax, cr2
    movabs  rcx, 0x0000444422222222
    cmp     rax, rcx
    jne     changed
    call    features
    and     r12d, eax
    test    r12d, 1
    jz      1f
    rdfsbase rax
    movabs  rcx, 0x00001111f5f5f5f5
    cmp     rax, rcx
    jne     changed
    rdgsbase rax
    movabs  rcx, 0x0000222265656565
    cmp     rax, rcx
    jne     changed
    swapgs
    rdgsbase rax
    movabs  rcx, 0x0000333378787878
    cmp     rax, rcx
    jne     changed
1:  fxsave64 [found_fx]
    # Where the last instruction was not every x87 knows, and which bits MXCSR has is the processor's.
    xor     eax, eax
    mov     [found_fx + 6], ax
    mov     [known_fx + 6], ax
    mov     [found_fx + 8], rax
    mov     [known_fx + 8], rax
    mov     [found_fx + 16], rax
    mov     [known_fx + 16], rax
    mov     [found_fx + 28], eax
    mov     [known_fx + 28], eax
    lea     rsi, [known_fx]
    lea     rdi, [found_fx]
    mov     ecx, 52                             # the rest is anybody's
    repe    cmpsq
    jne     changed
    test    r12d, 2
    jz      1f
    call    store_ymm
    lea     rsi, [known_ymm]
    lea     rdi, [found_ymm]
    mov     ecx, 64
    repe    cmpsq
    jne     changed
1:  mov     r14d, 0x1000                        # the register page
    say     goes_on
    mov     eax, EXIT
    mov     edi, 43
    vmcall

changed:
    mov     r14d, 0x1000
    mov     r15d, 43
    jmp     fail

# EAX: bit 0, RDFSBASE and its kin exist; bit 1, AVX does. Overwrites RCX and RDX.
features:
    xor     ecx, ecx
    xgetbv
    shr     eax, 1
    and     eax, 2
    mov     rcx, cr4
    shr     ecx, 16
    and     ecx, 1
    or      eax, ecx
    ret

# Something known in x87, MXCSR and the vectors. Overwrites RAX, RCX and RDX.
put_vectors:
    fninit
    fldpi
    fldl2e
    fld1
    mov     dword ptr [digits], 0x27f
    fldcw   [digits]
    mov     dword ptr [digits], 0xdfa0
    ldmxcsr [digits]
.irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    movabs  rax, 0x0001000300050007 * (\n + 1)
    movq    xmm\n, rax
    pshufd  xmm\n, xmm\n, 0x14
.endr
    call    features
    test    eax, 2
    jz      1f
.irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    vinsertf128 ymm\n, ymm\n, xmm\n, 1
.endr
1:  ret

# All YMM registers to `found_ymm`, where there are some. Overwrites RAX, RCX and RDX.
store_ymm:
    call    features
    test    eax, 2
    jz      1f
.irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    vmovups [found_ymm + 32 * \n], ymm\n
.endr
1:  ret

# ---- Checks ------------------------------------------------------------------------------------------------------------

check_registers:
    check                                   # the register page is where RDI says
    movabs  rax, 0x3152454b41524f46         # "FORAKER1"
    cmp     [r14 + MAGIC], rax
    jne     fail
    check                                   # it speaks of the same version as the hypercall does
    cmp     dword ptr [r14 + ABI_VERSION], 2
    jne     fail
    mov     eax, NOP_CALL
    vmcall
    cmp     rax, 2
    jne     fail
    check                                   # names, sizes and rates are there
    cmp     dword ptr [r14 + VM_ID + 4], 0
    je      fail
    lea     rax, [image_end]
    cmp     [r14 + MEMORY_BYTES], rax
    jb      fail
    test    dword ptr [r14 + MEMORY_BYTES], 4095
    jnz     fail
    cmp     qword ptr [r14 + TSC_HZ], 1000000
    jb      fail
    cmp     dword ptr [r14 + CONSOLE_SLOTS], 16
    jne     fail
    cmp     dword ptr [r14 + BOOT_ARGS_LEN], 1024
    ja      fail
    mov     rax, [r14 + GENERATION_ID]
    or      rax, [r14 + GENERATION_ID + 8]
    jz      fail
    check                                   # nobody changes who we are, and memory is counted in frames
    test    dword ptr [r14 + SEQUENCE], 1
    jnz     fail
    mov     eax, [r14 + LIMIT_FRAMES]
    shl     rax, 12
    cmp     rax, [r14 + MEMORY_BYTES]       # of its image nothing is said: page tables and metadata come on top
    jb      fail
    mov     eax, [r14 + HELD_FRAMES]
    cmp     eax, 9                          # metadata, nested page tables, register page and page tables
    jb      fail
    cmp     eax, [r14 + LIMIT_FRAMES]
    ja      fail
    mov     ecx, [r14 + RESERVE_FRAMES]
    cmp     ecx, [r14 + LIMIT_FRAMES]
    ja      fail
    cmp     ecx, 12                         # without these no VM starts
    jb      fail
    check                                   # a second has 10^9 nanoseconds, to a part in 256
    mov     rax, [r14 + TSC_HZ]
    mul     qword ptr [r14 + NS_PER_TICK]         # 32.32 fixed point
    shrd    rax, rdx, 32
    sub     rax, 1000000000
    jns     7f
    neg     rax
7:  cmp     rax, 1000000000 / 256
    ja      fail
    check                                   # the TSC goes on from the start
    call    now
    cmp     rax, [r14 + CLOCK_TSC]
    jb      fail
    mov     r12, rax
    call    now
    cmp     rax, r12
    jbe     fail
    ret

check_memory:
    check                                   # page tables: PML4 at 0x2000, PDPT at 0x3000, 1 GiB that is itself
    mov     rax, cr3
    cmp     rax, 0x2000
    jne     fail
    mov     rax, [0x2000]
    and     rax, -4096
    cmp     rax, 0x3000
    jne     fail
    mov     rax, [0x3000]
    and     rax, 0xfffffffffffff083
    cmp     rax, 0x83                       # address 0; present, writable, large
    jne     fail
    check                                   # initialised data is there and can be written
    movabs  rax, 0x0123456789abcdef
    cmp     [initialised], rax
    jne     fail
    not     rax
    mov     [initialised], rax
    cmp     [initialised], rax
    jne     fail
    check                                   # the rest of the segment is zero
    lea     rdi, [zeroed]
    mov     ecx, 4096 / 8
    xor     eax, eax
    repe scasq
    jne     fail
    check                                   # memory behind the image is zero, and can be written and given back
    mov     rbx, [r14 + MEMORY_BYTES]
    sub     rbx, 4096
    cmp     qword ptr [rbx], 0
    jne     fail
    mov     qword ptr [rbx + 8], -1
    mov     r12d, [r14 + HELD_FRAMES]
    mov     rdi, rbx
    shr     rdi, 12
    mov     esi, 1
    mov     eax, GIVE_BACK
    vmcall
    cmp     rax, 1                          # one frame
    jne     fail
    dec     r12d                            # and so it is held no longer
    cmp     [r14 + HELD_FRAMES], r12d
    jne     fail
    cmp     qword ptr [rbx + 8], 0
    jne     fail
    check                                   # the register page cannot be given back, nor what is beyond the memory
    mov     rdi, r14
    shr     rdi, 12
    mov     esi, 1
    mov     eax, GIVE_BACK
    vmcall
    cmp     rax, ERROR_ARGUMENT
    jne     fail
    mov     rdi, [r14 + MEMORY_BYTES]
    shr     rdi, 12
    mov     esi, 1
    mov     eax, GIVE_BACK
    vmcall
    cmp     rax, ERROR_ARGUMENT
    jne     fail
    check                                   # pages can be taken before they are touched; one of these two is there
    mov     r12d, [r14 + HELD_FRAMES]
    mov     rdi, [r14 + MEMORY_BYTES]
    shr     rdi, 12
    sub     rdi, 2
    mov     esi, 2
    mov     eax, TAKE
    vmcall
    cmp     rax, 2
    jne     fail
    inc     r12d
    cmp     [r14 + HELD_FRAMES], r12d
    jne     fail
    check                                   # not those beyond the memory, nor the hole at 0, nor code
    mov     rdi, [r14 + MEMORY_BYTES]
    shr     rdi, 12
    mov     esi, 1
    mov     eax, TAKE
    vmcall
    cmp     rax, ERROR_ARGUMENT
    jne     fail
    xor     edi, edi
    mov     esi, 1
    mov     eax, TAKE
    vmcall
    cmp     rax, ERROR_ARGUMENT
    jne     fail
    lea     rdi, [check_hypercalls]
    shr     rdi, 12
    mov     esi, 1
    mov     eax, TAKE
    vmcall
    cmp     rax, ERROR_ARGUMENT
    jne     fail
    ret

check_hypercalls:
    check                                   # an unknown number is an error, and no other register changes
    push    r15
    push    r14
    mov     rbx, 0x1001
    mov     rcx, 0x1002
    mov     rdx, 0x1003
    mov     rsi, 0x1004
    mov     rdi, 0x1005
    mov     rbp, 0x1006
    mov     r8,  0x1007
    mov     r9,  0x1008
    mov     r10, 0x1009
    mov     r11, 0x100a
    mov     r12, 0x100b
    mov     r13, 0x100c
    mov     r14, 0x100d
    mov     r15, 0x100e
    movq    xmm7, r15
    mov     rax, 0x7777
    vmcall
    add     rbx, rcx
    add     rbx, rdx
    add     rbx, rsi
    add     rbx, rdi
    add     rbx, rbp
    add     rbx, r8
    add     rbx, r9
    add     rbx, r10
    add     rbx, r11
    add     rbx, r12
    add     rbx, r13
    add     rbx, r14
    add     rbx, r15
    movq    rcx, xmm7
    sub     rcx, r15
    pop     r14
    pop     r15
    jne     fail
    cmp     rbx, 14 * 0x1000 + 105          # 0x1001 + ... + 0x100e
    jne     fail
    cmp     rax, ERROR_UNKNOWN
    jne     fail
    check                                   # there is no device 99
    mov     eax, KICK
    mov     edi, 99
    vmcall
    cmp     rax, ERROR_ARGUMENT
    jne     fail
    check                                   # who does not control the machine has no control ring
    cmp     qword ptr [r14 + CONTROL_PAGE], 0
    jne     fail
    mov     eax, KICK
    mov     edi, 3
    vmcall
    cmp     rax, ERROR_ARGUMENT
    jne     fail
    check                                   # nothing to return from
    mov     eax, FAULT_RETURN
    vmcall
    cmp     rax, ERROR_STATE
    jne     fail
    ret

# An alarm interrupts a loop that knows nothing of it.
check_upcall:
    check
    lea     rax, [upcall_entry]
    mov     [r14 + UPCALL_ENTRY], rax
    lea     rax, [upcall_stack]
    mov     [r14 + UPCALL_STACK], rax
    mov     qword ptr [r14 + ENABLED], PENDING_ALARM
    mov     dword ptr [r14 + UPCALLS_ON], 1
    call    in_10_ms
    mov     rbx, rax
    mov     rdi, rax
    mov     eax, SET_ALARM
    vmcall
    test    rax, rax
    jnz     fail
    cmp     [r14 + ALARM], rbx
    jne     fail
    mov     r12, [r14 + TSC_HZ]
    add     r12, rbx                        # give up a second later
    mov     ecx, 0x13579bdf
    mov     ebp, 0x2468ace0
7:  # RAX, RDX and the flags change all the time; the upcall may come anywhere in here.
    rdtsc
    shl     rdx, 32
    or      rax, rdx
    mov     rsi, rax
    xor     rsi, rdx
    mov     rdi, rax
    sub     rdi, rsi                        # and so this is RDX, unless a register was lost on the way
    cmp     rdx, rdi
    jne     fail
    cmp     dword ptr [upcall_count], 0
    jne     2f
    cmp     rax, r12
    jb      7b
    jmp     fail                            # no upcall for a second
2:  cmp     ecx, 0x13579bdf
    jne     fail
    cmp     ebp, 0x2468ace0
    jne     fail
    check                                   # it came once, not too early, with the right mask, and upcalls are on again
    cmp     dword ptr [upcall_count], 1
    jne     fail
    cmp     qword ptr [upcall_mask], PENDING_ALARM
    jne     fail
    cmp     [upcall_time], rbx
    jb      fail
    cmp     dword ptr [r14 + UPCALLS_ON], 1
    jne     fail
    cmp     qword ptr [r14 + ALARM], -1
    jne     fail
    check                                   # while upcalls are off nothing comes; then it does, with the next hypercall
    mov     dword ptr [r14 + UPCALLS_ON], 0
    mov     eax, SET_ALARM
    xor     edi, edi                        # due long ago
    vmcall
    call    in_10_ms
    mov     r12, rax
7:  call    now
    cmp     rax, r12
    jb      7b
    cmp     dword ptr [upcall_count], 1
    jne     fail
    test    qword ptr [r14 + PENDING], PENDING_ALARM
    jz      fail
    mov     dword ptr [r14 + UPCALLS_ON], 1
    mov     eax, NOP_CALL
    vmcall
    cmp     dword ptr [upcall_count], 2
    jne     fail
    mov     dword ptr [r14 + UPCALLS_ON], 0
    ret

# Runs on the upcall stack. Upcalls are off until UPCALL_RETURN.
upcall_entry:
    push    rax
    push    rdx
    push    rcx
    inc     dword ptr [upcall_count]
    cmp     dword ptr [r14 + UPCALLS_ON], 0
    jne     fail
    # Take what is pending, so that it does not come again.
    xor     eax, eax
    xchg    [r14 + PENDING], rax
    mov     [upcall_mask], rax
    call    now
    mov     [upcall_time], rax
    pop     rcx
    pop     rdx
    # RAX comes back from the register page, where the core has stored it.
    add     rsp, 8
    mov     eax, UPCALL_RETURN
    vmcall
    ud2

check_idle:
    check                                   # an idle ends at its timeout, which is an alarm
    mov     qword ptr [r14 + ENABLED], PENDING_ALARM
    call    in_10_ms
    mov     rbx, rax
    mov     rdi, rax
    mov     eax, IDLE
    vmcall
    test    rax, PENDING_ALARM
    jz      fail
    call    now
    cmp     rax, rbx
    jb      fail
    check                                   # what is pending already ends it at once
    mov     eax, IDLE
    mov     rdi, -1
    vmcall
    test    rax, PENDING_ALARM
    jz      fail
    xor     eax, eax
    xchg    [r14 + PENDING], rax
    check                                   # a deadline in the past only gives the quantum up
    mov     eax, IDLE
    xor     edi, edi
    vmcall
    test    rax, PENDING_ALARM
    jnz     fail
    check                                   # hlt idles without a timeout; the alarm ends it
    call    in_10_ms
    mov     rbx, rax
    mov     rdi, rax
    mov     eax, SET_ALARM
    vmcall
    hlt
    call    now
    cmp     rax, rbx
    jb      fail
    xor     eax, eax
    xchg    [r14 + PENDING], rax
    test    rax, PENDING_ALARM
    jz      fail
    ret

check_faults:
    check                                   # an undefined instruction
    expect_fault 6, 0, 2f
    mov     rax, 0x1111
    stc
7:  ud2
2:  jnc     fail                            # the flags are as they were
    cmp     rax, 0x1111
    jne     fail
    require_fault 7b
    check                                   # outside a fault handler this is 0 again
    cmp     dword ptr [r14 + IN_FAULT], 0
    jne     fail
    check                                   # int3 is raised behind itself
    expect_fault 3, 0, 7f
    int3
7:  require_fault 7b
    check                                   # there is no IDT: a software interrupt is a general protection fault
    expect_fault 13, 0x80 * 8 + 2, 2f
7:  int     0x80
2:  require_fault 7b
    check                                   # beyond 1 GiB the page tables have nothing: a page fault
    expect_fault 14, 0, 2f
    movabs  rbx, 0x4000000000
7:  mov     rax, [rbx]
2:  require_fault 7b
    cmp     [fault_address], rbx
    jne     fail
    check                                   # beyond the memory there is nothing behind the page tables
    expect_fault BAD_ADDRESS, WRITE, 2f
    mov     rbx, [r14 + MEMORY_BYTES]
7:  mov     byte ptr [rbx + 5], 1
2:  require_fault 7b
    lea     rax, [rbx + 5]
    cmp     [fault_address], rax
    jne     fail
    check                                   # a null pointer that is read
    expect_fault NULL_POINTER, READ, 2f
    xor     ebx, ebx
7:  mov     rax, [rbx + 8]
2:  require_fault 7b
    cmp     qword ptr [fault_address], 8
    jne     fail
    check                                   # and one that is called: RIP is 0, behind it lies where it came from
    expect_fault NULL_POINTER, EXECUTE, 2f
    xor     ebx, ebx
    mov     r12, rsp
    call    rbx
2:  lea     rcx, [rsp + 8]
    cmp     rcx, r12
    mov     rsp, r12
    jne     fail
    cmp     dword ptr [fault_count], 1
    jne     fail
    mov     rcx, [fault_at]
    or      rcx, [fault_address]
    jnz     fail
    check                                   # a stack that runs into the guard
    expect_fault GUARD, WRITE, 2f
    mov     r12, rsp
    lea     rsp, [stack_bottom]
7:  push    rax
2:  mov     rsp, r12
    require_fault 7b
    check                                   # code cannot be written
    expect_fault BAD_RIGHTS, WRITE, 2f
    lea     rbx, [_start]
7:  mov     byte ptr [rbx], 0x90
2:  require_fault 7b
    cmp     [fault_address], rbx
    jne     fail
    check                                   # nor data be executed
    expect_fault BAD_RIGHTS, EXECUTE, 2f
    mov     r12, rsp
    lea     rbx, [zeroed]
    jmp     rbx
2:  cmp     dword ptr [fault_count], 1
    jne     fail
    cmp     [fault_at], rbx
    jne     fail
    check                                   # no system calls
    expect_fault 6, 0, 2f
7:  syscall
2:  require_fault 7b
    ret

check_refused:
    xor     eax, eax
    xor     ecx, ecx
    xor     edx, edx
    require_refused CLASS_CPUID, cpuid
    test    rax, rax                        # and it has not been executed
    jnz     fail
    require_refused CLASS_MSR, rdmsr
    require_refused CLASS_MSR, wrmsr
    mov     edx, 0x3f8
    require_refused CLASS_PORT, in al, dx
    require_refused CLASS_PORT, out dx, al
    mov     rax, cr0
    xor     rax, 0x10000                    # WP
    require_refused CLASS_CONTROL, mov cr0, rax
    check                                   # TS is clear, and CLTS changes nothing
    mov     rax, cr0
    test    al, 8
    jnz     fail
    clts
    mov     rcx, cr0
    cmp     rax, rcx
    jne     fail
    require_refused CLASS_DESCRIPTOR, lidt [zeroed]
    require_refused CLASS_DEBUG, mov dr0, rax
    xor     ecx, ecx
    require_refused CLASS_OTHER, rdpmc
    require_refused CLASS_OTHER, wbinvd
    ret

# Sends one frame and sees that it was taken.
check_nic:
    mov     rbx, [r14 + NIC_PAGE]
    test    rbx, rbx
    jnz     7f
    say     no_nic
    ret
7:  check                                   # sizes and address make sense
    mov     eax, [rbx + NIC_RX_SLOTS]
    lea     ecx, [rax - 1]
    test    eax, ecx
    jnz     fail
    mov     r8d, [rbx + NIC_TX_SLOTS]
    lea     ecx, [r8 - 1]
    test    r8d, ecx
    jnz     fail
    cmp     r8d, 4
    jb      fail
    cmp     dword ptr [rbx + NIC_MAX_FRAME], 1514
    jne     fail
    test    byte ptr [rbx + NIC_MAC], 1
    jnz     fail                            # a group address
    check                                   # the transmit ring is untouched, so our index is 0, and takes a record
    lea     rbp, [rbx + NIC_TX_RING]
    cmp     qword ptr [rbp + RING_TAIL], 0
    jne     fail
    # In the first slot: record header, then the frame. The transmit slots are behind the receive slots, which take whole
    # pages.
    shl     eax, 6
    add     eax, 4095
    and     eax, -4096
    lea     rdx, [rbx + NIC_RX_SLOTS_AT + rax]
    mov     word ptr [rdx], PROBE_BYTES     # length
    mov     word ptr [rdx + 2], 1           # kind: frame
    mov     word ptr [rdx + 4], 1           # slots: (8 + 42) / 64, rounded up
    mov     word ptr [rdx + 6], 0           # reserved
    lea     rdi, [rdx + 8]
    lea     rsi, [probe]
    mov     ecx, PROBE_BYTES
    rep movsb
    mov     eax, [rbx + NIC_MAC]
    mov     cx, [rbx + NIC_MAC + 4]
    mov     [rdx + 8 + 6], eax              # source
    mov     [rdx + 8 + 10], cx
    mov     [rdx + 8 + 22], eax             # sender
    mov     [rdx + 8 + 26], cx
    mov     eax, [rbp + RING_EPOCH]
    shl     rax, 32
    or      rax, 1
    mov     r12, rax
    mov     [rbp + RING_TAIL], rax          # published: x86 keeps stores in order
    mfence
    cmp     dword ptr [rbp + RING_CONSUMER_WAITS], 0
    je      2f
    mov     eax, KICK
    mov     edi, DEVICE_NIC
    vmcall
    test    rax, rax
    jnz     fail
2:  # The demultiplexer takes it when it runs: within a second, says this check.
    mov     r13d, 100
3:  cmp     [rbp + RING_HEAD], r12
    je      4f
    dec     r13d
    js      fail
    call    in_10_ms
    mov     rdi, rax
    mov     eax, IDLE
    vmcall
    lock and qword ptr [r14 + PENDING], ~PENDING_ALARM
    jmp     3b
4:  check                                   # it was sent, or dropped for want of a link, but not for what it says
    mov     rax, [rbx + NIC_TX_FRAMES]
    add     rax, [rbx + NIC_TX_DROP_FULL]
    cmp     rax, 1
    jne     fail
    mov     rax, [rbx + NIC_TX_DROP_MAC]    # three counters in a row: MAC, IP, malformed
    or      rax, [rbx + NIC_TX_DROP_MAC + 8]
    or      rax, [rbx + NIC_TX_DROP_MAC + 16]
    jnz     fail
    ret

# ---- Faults ------------------------------------------------------------------------------------------------------------

# Runs on the fault stack. A fault that was expected is noted, and the guest goes on where the check says.
fault_entry:
    push    rax
    push    rcx
    cmp     qword ptr [fault_resume], 0
    je      unexpected
    cmp     dword ptr [r14 + IN_FAULT], 1
    jne     unexpected
    mov     eax, [r14 + FAULT_VECTOR]
    cmp     eax, [want_vector]
    jne     unexpected
    mov     eax, [r14 + FAULT_ERROR]
    cmp     eax, [want_error]
    jne     unexpected
    inc     dword ptr [fault_count]
    mov     rax, [r14 + FAULT_RIP]
    mov     [fault_at], rax
    mov     rax, [r14 + FAULT_ADDRESS]
    mov     [fault_address], rax
    mov     rax, [fault_resume]
    mov     [r14 + FAULT_RIP], rax
    mov     qword ptr [fault_resume], 0
    pop     rcx
    pop     rax
    mov     eax, FAULT_RETURN
    vmcall
    ud2

unexpected:
    say_piece strange
    mov     eax, [r14 + FAULT_VECTOR]
    call    say_number
    xor     ecx, ecx
    call    say_line
    jmp     fail

# ---- Time --------------------------------------------------------------------------------------------------------------

# RAX: the TSC. RDX is overwritten.
now:
    rdtsc
    shl     rdx, 32
    or      rax, rdx
    ret

# RAX: the TSC in ten milliseconds. RCX and RDX are overwritten.
in_10_ms:
    mov     rax, [r14 + TSC_HZ]
    xor     edx, edx
    mov     ecx, 100
    div     rcx
    mov     rcx, rax
    call    now
    add     rax, rcx
    ret

# ---- Console -----------------------------------------------------------------------------------------------------------

# Text at RSI of RCX bytes ends the line; the core is told. Overwrites RAX, RCX, RDX, RSI, RDI, R8 to R11.
say_line:
    xor     r8d, r8d
    call    say_slots
    mov     eax, KICK
    mov     edi, DEVICE_CONSOLE
    vmcall
    ret

# The same without an end of the line.
say_part:
    mov     r8d, 1

# Cuts RCX bytes at RSI into slots of 62 bytes. R8: the "more" of the last slot.
say_slots:
    mov     r9d, ecx
    mov     r10d, 62
    cmp     r9d, r10d
    cmova   r9d, r10d                       # bytes for this slot
    sub     ecx, r9d
    mov     r11d, ecx                       # bytes that are left
    # Has the ring been reset? Then it is empty, and our index is 0 again.
    mov     eax, [r14 + CONSOLE + RING_EPOCH]
    cmp     eax, [console_epoch]
    je      7f
    mov     [console_epoch], eax
    mov     dword ptr [console_tail], 0
7:  # Slots in use: our tail less the core's head, which counts as 0 when it is of another epoch.
    mov     rdx, [r14 + CONSOLE + RING_HEAD]
    mov     rdi, rdx
    shr     rdi, 32
    cmp     edi, [console_epoch]
    je      2f
    xor     edx, edx
2:  mov     edi, [console_tail]
    mov     eax, edi
    sub     eax, edx
    cmp     eax, [r14 + CONSOLE_SLOTS]
    jb      3f
    # Full: the core empties it on a kick.
    push    rdi
    mov     eax, KICK
    mov     edi, DEVICE_CONSOLE
    vmcall
    pop     rdi
    jmp     7b
3:  mov     eax, [r14 + CONSOLE_SLOTS]
    dec     eax
    and     eax, edi
    shl     eax, 6
    lea     rdx, [r14 + rax + CONSOLE + RING_SLOTS]
    mov     [rdx], r9b                      # bytes
    mov     eax, r8d
    test    r11d, r11d
    jz      4f
    mov     eax, 1
4:  mov     [rdx + 1], al                   # the line goes on
    lea     rdi, [rdx + 2]
    mov     ecx, r9d
    rep movsb
    # Publish: epoch and index in one store.
    inc     dword ptr [console_tail]
    mov     eax, [console_epoch]
    shl     rax, 32
    mov     edx, [console_tail]
    or      rax, rdx
    mov     [r14 + CONSOLE + RING_TAIL], rax
    mov     ecx, r11d
    test    ecx, ecx
    jnz     say_slots
    ret

# The number in RAX, in decimal, as a part of a line.
say_number:
    lea     rsi, [digits + 24]
    mov     ecx, 10
7:  xor     edx, edx
    div     rcx
    add     dl, '0'
    dec     rsi
    mov     [rsi], dl
    test    rax, rax
    jnz     7b
    lea     rcx, [digits + 24]
    sub     rcx, rsi
    jmp     say_part
