/* launch/account.h
 * What one token costs by arithmetic alone: multiply-adds of each part of the model, the energy
 * that a stated table gives them, and the law of Amdahl for the ternary projections. Pure
 * functions; nothing here is measured. */
#ifndef TRIREME_LAUNCH_ACCOUNT_H
#define TRIREME_LAUNCH_ACCOUNT_H

#include "model/model.h"

/* Multiply-adds of one token, the whole model. A ternary weight needs an addition of an int8
 * activation (or none); all the others need a product and an addition of floats. */
typedef struct {
    double ternary;    /* weights of ternary projections */
    double dense;      /* weights of projections in other types */
    double attention;  /* q.k and p.v: 2 * positions * heads * head_dim a layer */
    double head;       /* rows of the head * width */
    double projection; /* ternary + dense */
} account_ops_t;

/* positions: how many the token looks at, itself included. Local. */
account_ops_t account_ops(const model_desc_t *desc, double positions);

/* Picojoules of one operation. Rows are those of Horowitz, ISSCC 2014 (45 nm), and of Zhang et al.,
 * 2022 (7 nm), as the BitNet papers use them (arXiv:2310.11453, table 1). They count arithmetic:
 * moving the operands costs more, and is not in them. */
typedef struct {
    const char *name; /* "45 nm", "7 nm" */
    double      add_i8, add_f16, mul_f16, add_f32, mul_f32;
} account_energy_t;

enum { ACCOUNT_ENERGIES = 2 };
extern const account_energy_t account_energies[ACCOUNT_ENERGIES];

typedef struct {
    double projections_joules; /* of the ternary and dense projections, as computed here */
    double joules;             /* of all of account_ops, as computed here: int8 additions, float32
                                * products and additions */
    double f16_projections_joules, f16_joules; /* the same model in float16 throughout */
} account_joules_t;

/* Energy of one token. Local. */
account_joules_t account_joules(const account_ops_t *ops, const account_energy_t *energy);

/* Amdahl: the gain when a part that took the fraction `share` (0..1) of the time before becomes
 * `faster` times as fast; infinity is allowed, then it is the ceiling 1 / (1 - share). */
double account_amdahl(double share, double faster);

#endif
