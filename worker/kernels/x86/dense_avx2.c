/* worker/kernels/x86/dense_avx2.c
 * dense_body.inc in AVX2. */
#include "worker/kernels/x86/lanes_avx2.h"

enum { DENSE_FEW_F32 = 3, DENSE_FEW = 1, DENSE_TOK = 1 };
#include "worker/kernels/x86/dense_body.inc"
