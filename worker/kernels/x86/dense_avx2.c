/* worker/kernels/x86/dense_avx2.c
 * dense_body.inc in AVX2. */
#include "worker/kernels/x86/lanes_avx2.h"

enum { DENSE_FEW_F32 = 3, DENSE_FEW = 1, DENSE_TOK = 1 };
#define MUL_EACH(X) X(1) X(2) X(3)
#include "worker/kernels/x86/dense_body.inc"
