/* worker/kernels/probe.c: the probes for the CPU at hand, as dispatch.c finds kernels. */
#include "worker/kernels/probe.h"

kern_probes_t kern_probes(uint32_t features)
{
    kern_probes_t p = {0};

#define KERN(slot, variant, cpu_bits)                                                              \
    if ((features & (cpu_bits)) == (cpu_bits))                                                     \
        p.slot = kern_##slot##__##variant, p.name.slot = #variant;
#include "worker/kernels/probe_list.inc"
#undef KERN
    return p;
}
