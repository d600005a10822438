/* Fuzzing the messages of rank 0: any bytes give a status, or an assignment or a step that packs
 * again and means the same.
 *
 * First byte: odd for a step, even for an assignment. Alone, fields of sound messages are changed,
 * so that decoding succeeds. Built and run as fuzz.h says. */
#include <math.h>

#include "partition/assignment_wire.h"
#include "partition/step_wire.h"
#include "proto/control.pb-c.h"
#include "tests/fuzz/fuzz.h"
#include "tests/partition/fixture.h"

static void assignment(const uint8_t *data, size_t size)
{
    part_assignment_t a = {0}, b = {0};
    uint8_t          *once = NULL, *twice = NULL;
    size_t            n = 0, n_twice = 0;
    base_err_t        err = {0};
    base_status_t     st  = part_assignment_unpack(data, size, &a, &err);
    if (st != BASE_OK) {
        fuzz_expect(st != BASE_ERR_MEMORY && strstr(err.text, "assignment") != NULL, "unpack",
                    &err);
        return;
    }
    if (part_assignment_pack(&a, &once, &n, &err) != BASE_OK) abort();
    fuzz_expect(part_assignment_unpack(once, n, &b, &err) == BASE_OK, "unpack again", &err);
    if (part_assignment_pack(&b, &twice, &n_twice, &err) != BASE_OK) abort();
    fuzz_expect(n == n_twice && memcmp(once, twice, n) == 0, "not the same again", NULL);
    free(once);
    free(twice);
    part_assignment_free(&a);
    part_assignment_free(&b);
}

static void step(const uint8_t *data, size_t size)
{
    static const part_batch_limits_t limits = {.n_seq   = LIMIT_SEQUENCES,
                                               .n_ctx   = LIMIT_CONTEXT,
                                               .n_batch = LIMIT_BATCH,
                                               .n_out   = LIMIT_BATCH,
                                               .n_vocab = LIMIT_VOCAB};
    static part_step_room_t          room[2];

    uint8_t             again[PART_STEP_MAX_BYTES];
    part_step_t         a = {0}, b = {0};
    const part_batch_t *x = &a.batch, *y = &b.batch;
    size_t              n   = 0;
    base_err_t          err = {0};
    if (part_step_unpack(data, size, &limits, &a, &room[0], &err) != BASE_OK) {
        fuzz_expect(err.code == BASE_ERR_PEER && strstr(err.text, "step") != NULL, "step", &err);
        return;
    }
    if (part_step_pack(&a, again, sizeof(again), &n, &err) != BASE_OK) abort();
    fuzz_expect(part_step_unpack(again, n, &limits, &b, &room[1], &err) == BASE_OK, "again", &err);
    fuzz_expect(a.kind == b.kind && x->n_runs == y->n_runs && x->n_ids == y->n_ids &&
                    x->n_top == y->n_top && a.reset == b.reset &&
                    memcmp(room[0].ids, room[1].ids, x->n_ids * sizeof(int32_t)) == 0 &&
                    memcmp(room[0].runs, room[1].runs, x->n_runs * sizeof(part_run_t)) == 0,
                "another step", NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    uint8_t *exact = fuzz_copy(data + 1, size - 1);
    if (data[0] % 2 == 1)
        step(exact, size - 1);
    else
        assignment(exact, size - 1);
    free(exact);
    return 0;
}

#ifndef TRIREME_LIBFUZZER

static void mutate_message(ProtobufCMessage *m, uint64_t *state);

/* One value of a field. */
static void mutate_value(const ProtobufCFieldDescriptor *field, void *value, uint64_t *state)
{
    static const double odd[] = {0, -0.0, 1, -1, 1e-30, 1e30, 1e308};
    const uint64_t      v     = fuzz_odd(state);
    const double        d     = odd[v % (sizeof(odd) / sizeof(odd[0]))];
    const float         f     = (float)(d > 1e38 ? HUGE_VAL : d);
    char               *text  = NULL;
    switch (field->type) {
    case PROTOBUF_C_TYPE_MESSAGE: mutate_message(*(ProtobufCMessage **)value, state); break;
    case PROTOBUF_C_TYPE_STRING: /* shorter, or another character */
        text = *(char **)value;
        if (text[0] != '\0') text[v % strlen(text)] = (char)(fuzz_random(state) % 128);
        break;
    case PROTOBUF_C_TYPE_FLOAT: memcpy(value, &f, sizeof(f)); break;
    case PROTOBUF_C_TYPE_DOUBLE: memcpy(value, &d, sizeof(d)); break;
    case PROTOBUF_C_TYPE_UINT64: memcpy(value, &v, 8); break;
    default: *(uint32_t *)value = (uint32_t)v; break;
    }
}

static size_t value_bytes(ProtobufCType type)
{
    if (type == PROTOBUF_C_TYPE_MESSAGE || type == PROTOBUF_C_TYPE_STRING) return sizeof(void *);
    return type == PROTOBUF_C_TYPE_UINT64 || type == PROTOBUF_C_TYPE_DOUBLE ? 8 : 4;
}

/* A field of the message, at any depth, gets an odd value; or a list loses its last. */
static void mutate_message(ProtobufCMessage *m, uint64_t *state)
{
    const ProtobufCMessageDescriptor *d     = m->descriptor;
    const ProtobufCFieldDescriptor   *field = &d->fields[fuzz_random(state) % d->n_fields];
    uint8_t                          *at    = (uint8_t *)m;
    size_t                           *count = (size_t *)(void *)(at + field->quantifier_offset);
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        if (*count == 0) return;
        uint8_t *list = *(uint8_t **)(void *)(at + field->offset);
        if (fuzz_random(state) % 8 != 0)
            mutate_value(field, list + fuzz_random(state) % *count * value_bytes(field->type),
                         state);
        else if (value_bytes(field->type) == 4 || field->type == PROTOBUF_C_TYPE_DOUBLE)
            --*count; /* the list is freed as a whole */
        return;
    }
    if (field->label == PROTOBUF_C_LABEL_OPTIONAL) *(protobuf_c_boolean *)(void *)count = 1;
    mutate_value(field, at + field->offset, state);
}

static void mutate(fuzz_bytes_t *b, uint64_t *state)
{
    const bool        is_step = b->n > 0 && b->data[0] % 2 == 1;
    ProtobufCMessage *m       = NULL;
    if (b->n > 0 && fuzz_random(state) % 4 != 0)
        m = protobuf_c_message_unpack(is_step ? &trireme__step__descriptor
                                              : &trireme__assignment__descriptor,
                                      NULL, b->n - 1, b->data + 1);
    if (m == NULL) {
        fuzz_mutate_bytes(b, state);
        return;
    }
    mutate_message(m, state);
    const size_t n     = protobuf_c_message_get_packed_size(m);
    uint8_t     *bytes = malloc(n == 0 ? 1 : n);
    if (bytes == NULL) abort();
    (void)protobuf_c_message_pack(m, bytes);
    fuzz_splice(b, 1, b->n - 1, bytes, n);
    free(bytes);
    protobuf_c_message_free_unpacked(m, NULL);
}

static fuzz_bytes_t assignment_seed(bool tied, const char *layout, uint32_t rank)
{
    static const char *paths[] = {"/m/a-1.gguf", "/m/a-2.gguf"};
    fixture_shape_t    shape   = fixture_small;
    part_wish_t        wish    = {.n_ranks = 6, .layout = layout};
    uint8_t           *bytes   = NULL;
    size_t             n       = 0;
    fuzz_bytes_t       b       = {0};
    shape.tied = shape.sub_norms = tied;
    part_assignment_t a          = {.rank      = rank,
                                    .desc      = fixture_desc(shape),
                                    .n_paths   = tied ? 2 : 0,
                                    .paths     = paths,
                                    .n_ctx     = 4096,
                                    .n_seq     = 7,
                                    .type_k    = MODEL_F32,
                                    .type_v    = MODEL_F16,
                                    .n_batch   = 512,
                                    .n_out_max = 512,
                                    .n_threads = 3,
                                    .pack      = "t3",
                                    .cpu       = "avx2"};
    if (part_plan_make(&wish, &a.desc, &a.plan, NULL) != BASE_OK ||
        part_assignment_pack(&a, &bytes, &n, NULL) != BASE_OK)
        abort();
    fuzz_splice(&b, 0, 0, "\0", 1);
    fuzz_splice(&b, 1, 0, bytes, n);
    free(bytes);
    part_plan_free(&a.plan);
    model_desc_free(&a.desc);
    return b;
}

static fuzz_bytes_t step_seed(part_step_t step_of)
{
    uint8_t      bytes[PART_STEP_MAX_BYTES];
    size_t       n = 0;
    fuzz_bytes_t b = {0};
    if (part_step_pack(&step_of, bytes, sizeof(bytes), &n, NULL) != BASE_OK) abort();
    fuzz_splice(&b, 0, 0, "\1", 1);
    fuzz_splice(&b, 1, 0, bytes, n);
    return b;
}

int main(int argc, char **argv)
{
    static const int32_t    ids[]   = {0, 1, 17, 300, LIMIT_VOCAB - 1};
    static const part_run_t runs[]  = {{3, 300, 2, 2}, {0, 0, 3, 1}};
    fuzz_bytes_t            seeds[] = {
                   assignment_seed(true, "6x1", 2),
                   assignment_seed(false, "2x3", 4),
                   assignment_seed(true, "1x6", 0),
                   step_seed((part_step_t){
                       .kind  = PART_STEP_TOKENS,
                       .batch = {.runs = runs, .n_runs = 2, .ids = ids, .n_ids = 5, .n_top = 40}}),
                   step_seed((part_step_t){.kind = PART_STEP_STATS, .reset = true}),
                   step_seed((part_step_t){.kind = PART_STEP_STOP}),
    };
    enum { SEEDS = sizeof(seeds) / sizeof(seeds[0]) };
    const int rc = fuzz_main(argc, argv, seeds, SEEDS, mutate, 250000);
    for (int i = 0; i < SEEDS; i++) free(seeds[i].data);
    return rc;
}

#endif
