#include "textflag.h"

// func scanLines(b *byte, limit int, letters *[2 * 16]byte) int
TEXT ·scanLines(SB), NOSPLIT, $0-32
	MOVQ b+0(FP), SI
	MOVQ limit+8(FP), CX
	MOVQ letters+16(FP), DX
	VBROADCASTI128 (DX), Y8
	VBROADCASTI128 16(DX), Y9
	MOVL $0x0a0a0a0a, AX
	VMOVD AX, X10
	VPBROADCASTD X10, Y10
	MOVL $0x20202020, AX
	VMOVD AX, X11
	VPBROADCASTD X11, Y11
	XORQ AX, AX

loop:
	CMPQ AX, CX
	JGE  done

	// Memory is fetched ahead of pages by nobody else.
	PREFETCHT0 4096(SI)(AX*1)

	// What the letter would have to be, by its lower half, is what it is.
	VPOR     1(SI)(AX*1), Y11, Y1
	VPSHUFB  Y1, Y8, Y2
	VPSHUFB  Y1, Y9, Y3
	VPCMPEQB Y1, Y2, Y2
	VPCMPEQB Y1, Y3, Y3
	VPOR     Y2, Y3, Y2

	VPCMPEQB  (SI)(AX*1), Y10, Y0
	VPAND     Y2, Y0, Y0
	VPMOVMSKB Y0, BX
	TESTL     BX, BX
	JNE       found
	ADDQ      $32, AX
	JMP       loop

found:
	BSFL BX, BX
	ADDQ BX, AX

done:
	VZEROUPPER
	MOVQ AX, ret+24(FP)
	RET
