    .pushsection .rodata.qemu_shim_demo_guest, "a", @progbits
    .globl QEMU_SHIM_DEMO_GUEST
    .hidden QEMU_SHIM_DEMO_GUEST
    .type QEMU_SHIM_DEMO_GUEST, @object
    .size QEMU_SHIM_DEMO_GUEST, {size}
    .code32

    // Variables.
    .set .Lvram_size, {variables} + 0       // bytes
    .set .Lnext_mode, {variables} + 4       // pointer into the mode table
    .set .Lwidth,     {variables} + 8       // of the mode, pixels
    .set .Lheight,    {variables} + 12
    .set .Lbar,       {variables} + 16      // width of a colour bar
    .set .Lbars_end,  {variables} + 20      // height of the bars
    .set .Lrun,       {variables} + 24      // modes set so far, less one
    .set .Lnumber,    {variables} + 28      // of the frame
    .set .Lleft,      {variables} + 32      // frames left in this mode
    .set .Ly_offset,  {variables} + 36      // first line of the page drawn to
    .set .Lpage,      {variables} + 40      // its address
    .set .Li,         {variables} + 44      // loop counter
    .set .Lx,         {variables} + 48      // while the box is erased
    .set .Ly,         {variables} + 52
    .set .Lpart,      {variables} + 56

QEMU_SHIM_DEMO_GUEST:
    cld
    mov     esp, {stack}
    xor     eax, eax
    mov     [.Lrun], eax
    mov     [.Lnumber], eax

    // Is this a display we know, and has it room for two pages of the smallest mode?
    movzx   eax, word ptr [{id}]
    and     eax, 0xfff0
    cmp     eax, {id_family}
    mov     al, {no_display}
    jne     .Lfail
    movzx   eax, word ptr [{video_memory}]
    shl     eax, 16
    mov     [.Lvram_size], eax
    cmp     eax, 8 * {width0} * {height0}
    mov     al, {too_little_memory}
    jb      .Lfail
    mov     esi, offset .Lmodes

.Lmode:                                     // esi: where in the table
    mov     eax, [esi]
    mov     ebx, [esi + 4]
    mov     ecx, eax
    imul    ecx, ebx
    shl     ecx, 3
    jz      .Lfirst_mode                    // end of the table
    cmp     ecx, [.Lvram_size]
    jbe     .Lset_mode
.Lfirst_mode:
    mov     esi, offset .Lmodes
    jmp     .Lmode
.Lset_mode:
    add     esi, 8
    mov     [.Lnext_mode], esi
    mov     [.Lwidth], eax
    mov     [.Lheight], ebx
    mov     ecx, eax
    shr     ecx, 3
    mov     [.Lbar], ecx
    lea     ecx, [ebx - {strip_height}]
    mov     [.Lbars_end], ecx
    mov     dword ptr [.Lleft], {frames_per_mode}
    mov     word ptr [{enable}], 0
    mov     word ptr [{bpp}], 32
    mov     word ptr [{xres}], ax
    mov     word ptr [{yres}], bx
    mov     word ptr [{bank}], 0
    mov     word ptr [{virt_width}], ax
    lea     ecx, [ebx * 2]
    mov     word ptr [{virt_height}], cx
    mov     word ptr [{x_offset}], 0
    mov     word ptr [{y_offset}], 0
    mov     word ptr [{enable}], {enabled_lfb}
    mov     byte ptr [{attribute}], {unblank}

.Lframe:                                    // even frames go to the lower page
    xor     eax, eax
    test    byte ptr [.Lnumber], 1
    jnz     .Lpage_chosen
    mov     eax, [.Lheight]
.Lpage_chosen:
    mov     [.Ly_offset], eax
    imul    eax, [.Lwidth]
    shl     eax, 2
    add     eax, {vram}
    mov     [.Lpage], eax
    cmp     dword ptr [.Lleft], {frames_per_mode} - 2
    jbe     .Lerase_box

    // A page not drawn to in this mode: the bars, and the strip below them.
    mov     dword ptr [.Li], 0
.Lnext_bar:
    mov     eax, [.Li]
    mov     edx, [.Lbar]
    mov     ebx, edx
    imul    edx, eax
    xor     esi, esi
    mov     ebp, [.Lbars_end]
    call    .Lfill_bar
    inc     dword ptr [.Li]
    cmp     dword ptr [.Li], 8
    jb      .Lnext_bar
    xor     edx, edx
    mov     esi, [.Lbars_end]
    mov     ebx, [.Lwidth]
    mov     ebp, {strip_height}
    mov     eax, {strip_colour}
    call    .Lfill
    jmp     .Ldraw_box

    // A page that shows the frame before the last: the box hides parts of one or two bars.
.Lerase_box:
    mov     eax, [.Lnumber]
    sub     eax, 2
    call    .Lbox
    mov     [.Lx], edx
    mov     [.Ly], esi
    mov     eax, edx
    xor     edx, edx
    div     dword ptr [.Lbar]
    mov     [.Li], eax                      // the bar its left edge is in
    mov     ebx, [.Lbar]
    sub     ebx, edx                        // what of that bar is to the right of the edge
    cmp     ebx, {box_side}
    jbe     .Lpart_known
    mov     ebx, {box_side}
.Lpart_known:
    mov     [.Lpart], ebx
    mov     edx, [.Lx]
    mov     ebp, {box_side}
    call    .Lfill_bar
    mov     eax, [.Li]
    inc     eax
    mov     edx, [.Lx]
    add     edx, [.Lpart]
    mov     esi, [.Ly]
    mov     ebx, {box_side}
    sub     ebx, [.Lpart]
    mov     ebp, {box_side}
    call    .Lfill_bar

.Ldraw_box:
    mov     eax, [.Lnumber]
    call    .Lbox
    mov     ebx, {box_side}
    mov     ebp, {box_side}
    mov     eax, {box_colour}
    call    .Lfill

    mov     dword ptr [.Li], 0
.Lnext_digit:
    mov     ecx, {digits} - 1
    sub     ecx, [.Li]
    mov     eax, [.Lnumber]
    shr     eax, cl
    and     eax, 1
    mov     eax, [eax * 4 + .Ldigit_colours]
    imul    edx, [.Li], {digit_pitch}
    add     edx, {digit_margin}
    mov     esi, [.Lbars_end]
    add     esi, {digit_margin}
    mov     ebx, {digit_side}
    mov     ebp, {digit_side}
    call    .Lfill
    inc     dword ptr [.Li]
    cmp     dword ptr [.Li], {digits}
    jb      .Lnext_digit

    // Flip, and say so.
    mov     eax, [.Lwidth]
    mov     word ptr [{virt_width}], ax
    mov     word ptr [{x_offset}], 0
    mov     eax, [.Ly_offset]
    mov     word ptr [{y_offset}], ax
    mov     eax, [.Lnumber]
    out     {frame_port}, eax

    inc     dword ptr [.Lnumber]
    dec     dword ptr [.Lleft]
    jnz     .Lframe
    inc     dword ptr [.Lrun]
    mov     esi, [.Lnext_mode]
    jmp     .Lmode

    // Where the box is in frame eax: x in edx, y in esi.
.Lbox:
    push    eax
    imul    eax, eax, {box_step_y}
    mov     ecx, [.Lbars_end]
    call    .Lbounce
    mov     esi, eax
    pop     eax
    imul    eax, eax, {box_step_x}
    mov     ecx, [.Lwidth]
    call    .Lbounce
    mov     edx, eax
    ret

    // After eax steps to and fro in ecx pixels, less the box: eax.
.Lbounce:
    sub     ecx, {box_side}
    lea     ebx, [ecx * 2]
    xor     edx, edx
    div     ebx
    mov     eax, edx
    cmp     eax, ecx
    jbe     .Lbounced
    sub     ebx, eax
    mov     eax, ebx
.Lbounced:
    ret

    // As below, in the colour of bar eax.
.Lfill_bar:
    add     eax, [.Lrun]
    and     eax, 7
    mov     eax, [eax * 4 + .Lbar_colours]

    // Fills the rectangle at edx, esi of the page, ebx wide and ebp high, with colour eax.
.Lfill:
    imul    esi, [.Lwidth]
    add     esi, edx
    lea     edi, [esi * 4]
    add     edi, [.Lpage]
    mov     edx, [.Lwidth]
    sub     edx, ebx
    shl     edx, 2                          // from the end of a row to the next
.Lnext_row:
    mov     ecx, ebx
    rep stosd
    add     edi, edx
    dec     ebp
    jnz     .Lnext_row
    ret

.Lfail:                                     // al: why
    out     {failure_port}, al
.Lhalt:
    hlt
    jmp     .Lhalt

    // The program runs at its load address, whatever the address of this section.
    .set .Lmodes,         {load_address} + .Lmode_table - QEMU_SHIM_DEMO_GUEST
    .set .Lbar_colours,   {load_address} + .Lbar_table - QEMU_SHIM_DEMO_GUEST
    .set .Ldigit_colours, {load_address} + .Ldigit_table - QEMU_SHIM_DEMO_GUEST
    .balign 4
.Lmode_table:
    .long {width0}, {height0}, {width1}, {height1}, {width2}, {height2}, 0, 0
.Lbar_table:
    .long {bar0}, {bar1}, {bar2}, {bar3}, {bar4}, {bar5}, {bar6}, {bar7}
.Ldigit_table:
    .long {digit0}, {digit1}
    .org QEMU_SHIM_DEMO_GUEST + {size}
    .code64
    .popsection
