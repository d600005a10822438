/* Fuzzing safetensors files and model.safetensors.index.json: any bytes give a status, or tensors
 * whose rows can be read.
 *
 * First byte: the shape that the tensors must have, or that an index of two sound files follows.
 * Built and run as fuzz.h says. */
#include "tests/fuzz/hf.h"

enum { SHAPES = 3, INDEX = 3, MODES = 4 };

static const char config_text[] =
    "{\"model_type\":\"llama\",\"hidden_size\":8,\"intermediate_size\":12,\"num_hidden_layers\":1,"
    "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"vocab_size\":6,"
    "\"max_position_embeddings\":64}";

static hf_config_t shape_of(unsigned mode)
{
    return hf_shape(mode != 0, mode == 0 ? HF_DENSE : mode == 1 ? HF_PACKED : HF_ONLINE);
}

static const char *const files[] = {"config.json", "m-1.safetensors", "m-2.safetensors",
                                    "model.safetensors.index.json"};

static void leave(void)
{
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) fuzz_write(files[i], NULL, 0);
    fuzz_folder_remove();
}

/* An index beside two files: all of the model, and one tensor that nobody knows. */
static void open_index(const uint8_t *data, size_t size)
{
    model_open_options_t options = {0};
    model_t             *m       = NULL;
    base_err_t           err     = {0};
    if (fuzz_folder[0] == '\0') {
        const hf_config_t shape = shape_of(0);
        fuzz_bytes_t      all   = hf_weights(&shape);
        hf_file_t         more  = {0};
        uint8_t           length[8];
        fuzz_splice(&more.header, 0, 0, "{", 1);
        hf_put(&more, "extra", "F16", 2, 3);
        fuzz_splice(&more.header, more.header.n, 0, "}", 1);
        model_store_u64(length, more.header.n);
        fuzz_splice(&more.header, 0, 0, length, 8);
        fuzz_splice(&more.header, more.header.n, 0, more.data.data, more.data.n);
        fuzz_folder_make(leave);
        fuzz_write(files[0], config_text, sizeof(config_text) - 1);
        fuzz_write(files[1], all.data, all.n);
        fuzz_write(files[2], more.header.data, more.header.n);
        free(all.data);
        free(more.header.data);
        free(more.data.data);
    }
    fuzz_write(files[3], data, size);
    base_status_t st = model_hf_open(fuzz_folder, &options, &m, &err);
    if (st == BASE_OK)
        hf_read(&m->desc, m->source);
    else
        fuzz_expect(base_status_exit(st) == 3 && strstr(err.text, fuzz_folder) != NULL, "open",
                    &err);
    model_close(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_quiet();
    if (size == 0) return 0;
    const unsigned mode = data[0] % MODES;
    if (mode == INDEX) {
        open_index(data + 1, size - 1);
        return 0;
    }
    const hf_config_t shape = shape_of(mode);
    uint8_t          *exact = fuzz_copy(data + 1, size - 1); /* begins where malloc() says */
    hf_bind(&shape, exact, size - 1);
    free(exact);
    return 0;
}

#ifndef TRIREME_LIBFUZZER

static void mutate(fuzz_bytes_t *b, uint64_t *state)
{
    static const char *const pieces[] = {"\"U8\"",
                                         "\"F32\"",
                                         "\"BF16\"",
                                         "\"F4\"",
                                         "[2,8]",
                                         "[0,0]",
                                         "[8]",
                                         "[1,1,1]",
                                         "[96,96]",
                                         "\"m-1.safetensors\"",
                                         "\"m-2.safetensors\"",
                                         "\"../m-1.safetensors\"",
                                         "\"m-3.safetensors\"",
                                         "[4611686018427387904,4]",
                                         "[9223372036854775807,9223372036854775807]"};
    const size_t             first    = b->n > 0 && b->data[0] % MODES == INDEX ? 1 : 9;
    const uint64_t           pick     = fuzz_random(state);
    if (first == 9 && pick % 32 == 1) b->data[0] = (uint8_t)(pick >> 8); /* another shape's file */
    if (b->n <= first || pick % 8 == 0) {
        fuzz_mutate_bytes(b, state);
        return;
    }
    fuzz_bytes_t text = {0};
    uint64_t     n    = b->n - first;
    if (first == 9 && model_load_u64(b->data + 1) < n) n = model_load_u64(b->data + 1);
    fuzz_splice(&text, 0, 0, b->data + first, n);
    if (pick % 8 < 6)
        fuzz_mutate_json(&text, pieces, sizeof(pieces) / sizeof(pieces[0]), state);
    else
        fuzz_mutate_bytes(&text, state);
    if (first == 9) model_store_u64(b->data + 1, text.n); /* so that the header is read at all */
    fuzz_splice(b, first, n, text.data, text.n);
    free(text.data);
}

int main(int argc, char **argv)
{
    static const char index[] =
        "\003{\"metadata\":{\"total_size\":9},\"weight_map\":{\"a\":\"m-1.safetensors\","
        "\"extra\":\"m-2.safetensors\",\"b\":\"m-1.safetensors\"}}";
    fuzz_bytes_t seeds[MODES] = {0};
    for (uint8_t i = 0; i < SHAPES; i++) {
        const hf_config_t shape = shape_of(i);
        seeds[i]                = hf_weights(&shape);
        fuzz_splice(&seeds[i], 0, 0, &i, 1);
    }
    fuzz_splice(&seeds[INDEX], 0, 0, index, sizeof(index) - 1);
    const int rc = fuzz_main(argc, argv, seeds, MODES, mutate, 150000);
    for (int i = 0; i < MODES; i++) free(seeds[i].data);
    return rc;
}

#endif
