/* worker/kernels/x86/vector_avx2.c
 * vector_body.inc in AVX2. */
#include "worker/kernels/x86/lanes_avx2.h"

#include "worker/kernels/x86/vector_body.inc"
