/* worker/kernels/x86/attn_avx2.c
 * attn_body.inc in AVX2. */
#include "worker/kernels/x86/lanes_avx2.h"

enum { ATTN_HEADS = 1 };
#include "worker/kernels/x86/attn_body.inc"
