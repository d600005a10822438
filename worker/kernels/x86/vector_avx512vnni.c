/* worker/kernels/x86/vector_avx512vnni.c
 * vector_body.inc in AVX-512. */
#include "worker/kernels/x86/lanes_avx512.h"

#include "worker/kernels/x86/vector_body.inc"
