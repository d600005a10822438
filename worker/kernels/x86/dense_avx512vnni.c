/* worker/kernels/x86/dense_avx512vnni.c
 * dense_body.inc in AVX-512. */
#include "worker/kernels/x86/lanes_avx512.h"

enum { DENSE_FEW_F32 = 4096, DENSE_FEW = 4096, DENSE_TOK = 4 };
#include "worker/kernels/x86/dense_body.inc"
