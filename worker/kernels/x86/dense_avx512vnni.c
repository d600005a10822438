/* worker/kernels/x86/dense_avx512vnni.c
 * dense_body.inc in AVX-512. */
#include "worker/kernels/x86/lanes_avx512.h"

enum { DENSE_FEW = 1 };
#include "worker/kernels/x86/dense_body.inc"
