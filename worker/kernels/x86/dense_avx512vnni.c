/* worker/kernels/x86/dense_avx512vnni.c
 * dense_body.inc in AVX-512. */
#include "worker/kernels/x86/lanes_avx512.h"

enum { DENSE_FEW_F32 = 64, DENSE_FEW = 4096, DENSE_TOK = 4 };
#define MUL_EACH(X) X(1) X(2) X(3) X(4) X(5) X(6)
#include "worker/kernels/x86/dense_body.inc"
