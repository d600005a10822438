/* tests/worker/measure.c: figures that a machine can have, whatever the team.
 * labels: threads */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "worker/kernels/kernel.h"
#include "worker/kernels/many.h"
#include "worker/measure.h"

static void bandwidth(void **state)
{
    (void)state;
    for (int n = 1; n <= 3; n++) {
        worker_team_t *team = NULL;
        double         all = 0, one = 0, ref = 0;
        base_err_t     err;

        assert_int_equal(worker_team_create(n, NULL, false, false, &team, &err), BASE_OK);
        assert_int_equal(worker_measure_bandwidth(team, n, NULL, &all, &err), BASE_OK);
        assert_int_equal(worker_measure_bandwidth(team, 1, NULL, &one, &err), BASE_OK);
        assert_int_equal(worker_measure_bandwidth(team, n, "ref", &ref, &err), BASE_OK);
        print_message("%d threads: %.1f GB/s; one of them %.1f; ref %.1f\n", n, all * 1e-9,
                      one * 1e-9, ref * 1e-9);
        /* No machine of today is outside, even under a sanitizer; a wrong unit would be. */
        assert_true(all > 1e7 && all < 1e13);
        assert_true(one > 1e7 && one < 1e12);
        assert_true(ref > 1e6 && ref < 1e13);
        worker_team_destroy(&team);
    }
}

static void memory(void **state)
{
    (void)state;
    assert_int_equal(worker_measure_bytes(1), 256u << 20);
    assert_int_equal(worker_measure_bytes(16), 256u << 20);
    assert_int_equal(worker_measure_bytes(32), 512u << 20);
    assert_int_equal(worker_measure_bytes(384), 768u << 20);
    assert_int_equal(worker_measure_bytes(1024), (size_t)2 << 30);
}

static void packs(void **state)
{
    (void)state;
    worker_team_t     *team = NULL;
    worker_pack_rate_t r[WORKER_PACKS];
    worker_plan_rate_t plan = {.want_few = true};
    base_err_t         err;

    assert_int_equal(worker_team_create(2, NULL, false, false, &team, &err), BASE_OK);
    assert_int_equal(worker_measure_packs(team, NULL, false, r, &plan, &err), BASE_OK);
    for (int i = 0; i < WORKER_PACKS; i++) {
        print_message("%s: %.1f G weights/s, %.1f G products/s\n", i == 0 ? "t2" : "t3",
                      r[i].gemv * 1e-9, r[i].gemm * 1e-9);
        assert_true(r[i].gemv > 1e6 && r[i].gemv < 1e14);
        assert_true(r[i].gemm > 1e6 && r[i].gemm < 1e15);
    }
    assert_true(plan.dense > 1e6 && plan.dense < 1e13);
    assert_true(plan.screen > 1e6 && plan.screen < 1e13);
    for (int i = 0; i < PART_FEW; i++) {
        const double few[] = {plan.few.t2[i], plan.few.t3[i], plan.few.dense[i],
                              plan.few.screen[i]};
        print_message("%u vectors: t2 %.1f, t3 %.1f, float16 %.1f, coarse head %.1f G products/s\n",
                      part_few_vectors[i], few[0] * 1e-9, few[1] * 1e-9, few[2] * 1e-9,
                      few[3] * 1e-9);
        for (int j = 0; j < 4; j++) assert_true(few[j] > 1e6 && few[j] < 1e15);
    }
    worker_team_destroy(&team);
    assert_true(worker_kernels_version() != 0);
}

/* As under a quota, with spans by CPU time: without one its portion is the whole, and what is
 * measured so lies where the plain way puts it. Others on the machine take from both. */
static void slowly(void **state)
{
    (void)state;
    worker_team_t     *team = NULL;
    worker_pack_rate_t r[WORKER_PACKS];
    worker_plan_rate_t plan = {.want_few = true}, plain = {.want_few = true};
    base_err_t         err;

    assert_int_equal(worker_team_create(1, NULL, false, false, &team, &err), BASE_OK);
    assert_int_equal(worker_measure_packs(team, NULL, false, r, &plain, &err), BASE_OK);
    assert_int_equal(worker_measure_packs(team, NULL, true, r, &plan, &err), BASE_OK);
    for (int i = 0; i < PART_FEW; i++) {
        const double ratios[] = {plan.few.t2[i] / plain.few.t2[i], plan.few.t3[i] / plain.few.t3[i],
                                 plan.few.dense[i] / plain.few.dense[i],
                                 plan.few.screen[i] / plain.few.screen[i]};
        for (int j = 0; j < 4; j++) {
            print_message("%u vectors: %.2f\n", part_few_vectors[i], ratios[j]);
            assert_true(ratios[j] > 0.1 && ratios[j] < 10);
        }
    }
    worker_team_destroy(&team);
}

/* Kernels for many tokens are handed what a step hands them: with less, one of them would be timed
 * as another that it falls back on. */
static base_status_t take_row(void *ctx, const worker_measure_row_t *row, uint32_t done,
                              uint32_t total, base_err_t *err)
{
    (void)done;
    (void)total;
    (void)err;
    if (row->n_tok < 16 || strcmp(row->variant, "ref") == 0) return BASE_OK;
    *(int *)ctx += 1;
    if (row->n_weights < (uint64_t)KERN_MANY_TILES * KERN_TILE_ROWS * WORKER_MEASURE_COLS)
        fail_msg("%s.%s, %u tokens: %llu weights a call", row->slot, row->variant, row->n_tok,
                 (unsigned long long)row->n_weights);
    return BASE_OK;
}

static void whole_calls(void **state)
{
    (void)state;
    worker_team_t   *team   = NULL;
    int              rows   = 0;
    worker_measure_t config = {
        .filter = "gemm_t2_i8", .seconds = 0.001, .row = take_row, .ctx = &rows};
    base_err_t err;

    assert_int_equal(worker_team_create(1, NULL, false, false, &team, &err), BASE_OK);
    assert_int_equal(worker_measure_kernels(team, &config, &err), BASE_OK);
    worker_team_destroy(&team);
    if (kern_cpu_features() != 0) assert_true(rows >= 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory), cmocka_unit_test(bandwidth),   cmocka_unit_test(packs),
        cmocka_unit_test(slowly), cmocka_unit_test(whole_calls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
