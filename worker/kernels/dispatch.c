/* worker/kernels/dispatch.c
 * The table is filled by walking the list once: later rows are stronger and overwrite earlier ones.
 */
#include "base/status.h"
#include "worker/kernels/kernel.h"
#include "worker/kernels/kernel_decl.h"

static bool has_all(uint32_t features, uint32_t bits)
{
    return (features & bits) == bits;
}

void kern_table_init(kern_table_t *table, uint32_t features)
{
    base_assert(table != NULL);
    *table = (kern_table_t){0};

#define KERN(slot, variant, cpu_bits)                                                              \
    if (has_all(features, cpu_bits)) table->slot = kern_##slot##__##variant;
#include "worker/kernels/kernel_list.inc"
#undef KERN

#define X(slot, type) base_assert(table->slot != NULL);
    KERN_SLOTS(X)
#undef X
}

kern_dense_fn *kern_dense(const kern_table_t *table, kern_dense_t type)
{
    switch (type) {
    case KERN_F32: return table->dense_f32;
    case KERN_F16: return table->dense_f16;
    case KERN_BF16: return table->dense_bf16;
    case KERN_Q8_0: return table->dense_q8_0;
    case KERN_Q6_K: return table->dense_q6_k;
    case KERN_Q4_0: return table->dense_q4_0;
    case KERN_Q4_1: return table->dense_q4_1;
    case KERN_Q5_0: return table->dense_q5_0;
    case KERN_Q5_1: return table->dense_q5_1;
    case KERN_Q2_K: return table->dense_q2_k;
    case KERN_Q3_K: return table->dense_q3_k;
    case KERN_Q4_K: return table->dense_q4_k;
    case KERN_Q5_K: return table->dense_q5_k;
    case KERN_TQ1_0: return table->dense_tq1_0;
    case KERN_TQ2_0: return table->dense_tq2_0;
    case KERN_DENSE_COUNT: break;
    }
    base_assert(type < KERN_DENSE_COUNT);
    return NULL;
}
