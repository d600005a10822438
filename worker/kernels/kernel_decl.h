/* worker/kernels/kernel_decl.h
 * Declarations of all kernel variants, made from the slots' types and the list, so that a signature
 * cannot drift. For the files that define kernels, for dispatch, measuring
 * (worker/measure_kernels.c) and tests; nobody else. */
#ifndef TRIREME_KERN_KERNEL_DECL_H
#define TRIREME_KERN_KERNEL_DECL_H

#include "worker/kernels/kernel.h"

#define X(slot, type) typedef type kern_slot_##slot##_t;
KERN_SLOTS(X)
#undef X

#define KERN(slot, variant, cpu_bits) kern_slot_##slot##_t kern_##slot##__##variant;
#include "worker/kernels/kernel_list.inc"
#undef KERN

#endif
