/* worker/kernels/x86/attn_avx512vnni.c
 * attn_body.inc in AVX-512. */
#include "worker/kernels/x86/lanes_avx512.h"

enum { ATTN_HEADS = 4 };
#include "worker/kernels/x86/attn_body.inc"
