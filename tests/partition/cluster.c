/* Cluster descriptions: what a file may say, and errors that name the field. */
#include <math.h>
#include <unistd.h>

#include "partition/cluster.h"
#include "tests/partition/fixture.h"

static void sizes(void **state)
{
    (void)state;
    const struct {
        const char *text;
        double      bytes;
    } good[] = {
        {"0", 0},
        {"17", 17},
        {"24G", 24.0 * (1 << 30)},
        {"1.5T", 1.5 * 1099511627776.0},
        {"512M", 536870912},
        {"64GiB", 64.0 * (1 << 30)},
        {"24GB", 24e9},
        {"1K", 1024},
        {".5K", 512},
        {"3.K", 3072},
        {"1048576T", 0},
    };
    uint64_t bytes = 0;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]) - 1; i++) {
        assert_true(part_size_parse(good[i].text, &bytes));
        assert_true((double)bytes == good[i].bytes);
    }
    const char *bad[] = {"",
                         "G",
                         ".",
                         ".G",
                         "-1G",
                         "+1G",
                         "1 G",
                         " 1G",
                         "1G ",
                         "1g",
                         "1GI",
                         "1Gi",
                         "1Gb",
                         "1X",
                         "1e9",
                         "0x10",
                         "1..5G",
                         "1,5G",
                         "nan",
                         "inf",
                         "1.5.5",
                         "1048577T",
                         "9999999999999999999",
                         "1234567890123456789012"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        bytes = 7;
        if (part_size_parse(bad[i], &bytes)) fail_msg("'%s' was taken for a size", bad[i]);
        assert_int_equal(bytes, 7);
    }
}

static base_status_t parse(const char *json, part_cluster_t *c, base_err_t *err)
{
    return part_cluster_parse(json, strlen(json), "c.json", 2, c, err);
}

static void good_file(void **state)
{
    (void)state;
    part_cluster_t c   = {0};
    base_err_t     err = {0};
    if (parse("{\"nodes\": [{\"name\": \"big\", \"count\": 2, \"mem\": \"384G\", \"cores\": 32, "
              "\"membw_gbs\": 180.5, \"ranks\": 4}, {\"mem\": 25769803776}, {\"mem\": \"1T\", "
              "\"count\": 3}],"
              " \"latency_us\": 30, \"net_gbit\": 10}",
              &c, &err) != BASE_OK)
        fail_msg("%s", err.text);
    assert_int_equal(c.n_nodes, 6);
    assert_int_equal(c.n_ranks, 2 * 4 + 2 + 3 * 2);
    assert_string_equal(c.nodes[0].name, "big1");
    assert_string_equal(c.nodes[1].name, "big2");
    assert_string_equal(c.nodes[2].name, "node2");
    assert_string_equal(c.nodes[5].name, "node3-3");
    assert_int_equal(c.nodes[1].mem_bytes, UINT64_C(384) << 30);
    assert_int_equal(c.nodes[1].cores, 32);
    assert_true(c.nodes[1].membw == 180.5e9);
    assert_int_equal(c.nodes[2].mem_bytes, UINT64_C(24) << 30);
    assert_true(c.nodes[2].membw == 0);
    assert_true(fabs(c.latency - 30e-6) < 1e-12 && c.net == 1.25e9);
    /* Ranks lie node by node. */
    const uint32_t expected[] = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5};
    for (uint32_t r = 0; r < 16; r++) assert_int_equal(part_cluster_node(&c, r), expected[r]);
    part_cluster_free(&c);
    part_cluster_free(&c);

    assert_int_equal(parse("{\"nodes\":[{\"mem\":\"1G\"}]}", &c, &err), BASE_OK);
    assert_true(c.latency < 0 && c.net == 0 && c.n_ranks == 2);
    part_cluster_free(&c);
}

/* A file that is no cluster, in words with this piece. */
static void refused(const char *json, const char *piece)
{
    part_cluster_t c   = {0};
    base_err_t     err = {0};
    base_status_t  st  = parse(json, &c, &err);
    if (st != BASE_ERR_INPUT) fail_msg("%s: status %d", json, (int)st);
    if (strstr(err.text, piece) == NULL) fail_msg("%s: '%s' lacks '%s'", json, err.text, piece);
    assert_null(c.nodes);
}

/* Rates of few vectors: four of them, each a number in its range. */
static void bad_few(void **state)
{
    (void)state;
    const struct {
        const char *json, *piece;
    } bad[] = {
        {"{\"nodes\": [{\"mem\": \"1G\", \"screen_gbs\": 0}]}", "nodes[0].screen_gbs: 0"},
        {"{\"nodes\": [{\"mem\": \"1G\", \"t2_few_gops\": 7}]}",
         "nodes[0].t2_few_gops: expected 4 numbers"},
        {"{\"nodes\": [{\"mem\": \"1G\", \"t2_few_gops\": null}]}",
         "nodes[0].t2_few_gops: expected 4 numbers"},
        {"{\"nodes\": [{\"mem\": \"1G\", \"t3_few_gops\": []}]}",
         "nodes[0].t3_few_gops: expected 4 numbers"},
        {"{\"nodes\": [{\"mem\": \"1G\", \"t3_few_gops\": [1, 2, 3]}]}",
         "nodes[0].t3_few_gops: expected 4 numbers"},
        {"{\"nodes\": [{\"mem\": \"1G\", \"dense_few_gops\": [1, 2, 3, 4, 5]}]}",
         "nodes[0].dense_few_gops: expected 4 numbers"},
        {"{\"nodes\": [{\"mem\": \"1G\", \"dense_few_gops\": [1, 2, 0, 4]}]}",
         "nodes[0].dense_few_gops: 0"},
        {"{\"nodes\": [{\"mem\": \"1G\", \"screen_few_gops\": [1, -2, 3, 4]}]}",
         "nodes[0].screen_few_gops: -2"},
        {"{\"nodes\": [{\"mem\": \"1G\", \"screen_few_gops\": [1, 2, 3, \"4\"]}]}",
         "nodes[0].screen_few_gops: expected a number"},
        {"{\"nodes\": [{\"mem\": \"1G\", \"screen_few_gops\": [1, 2, 3, null]}]}",
         "nodes[0].screen_few_gops: expected a number"},
        {"{\"nodes\": [{\"mem\": \"1G\", \"t2_few_gops\": [1, 2, 3, 1e30]}]}",
         "nodes[0].t2_few_gops: 1"},
        {"{\"nodes\": [{\"mem\": \"1G\", \"t2_few_gops\": [1, 2, 3, 1e999]}]}", "line 1"},
        {"{\"nodes\": [{\"mem\": \"1G\", \"t2_few_gops\": [1, 2, 3, NaN]}]}", "line 1"},
        {"{\"nodes\": [{\"mem\": \"1G\", \"few_gops\": [1, 2, 3, 4]}]}",
         "nodes[0].few_gops: no such field"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) refused(bad[i].json, bad[i].piece);
}

static void bad_files(void **state)
{
    (void)state;
    const struct {
        const char *json, *piece;
    } bad[] = {
        {"", "line 1"},
        {"{", "line 1"},
        {"[]", "expected an object"},
        {"7", "line 1"},
        {"{}", "nodes: missing"},
        {"{\"nodes\": []}", "nodes: expected an array"},
        {"{\"nodes\": {}}", "nodes: expected an array"},
        {"{\"nodes\": [3]}", "nodes[0]: expected an object"},
        {"{\"nodes\": [{}]}", "nodes[0].mem: missing"},
        {"{\"nodes\": [{\"mem\": \"1G\"}, {\"cores\": 1}]}", "nodes[1].mem: missing"},
        {"{\"nodes\": [{\"mem\": \"lots\"}]}", "nodes[0].mem: 'lots'"},
        {"{\"nodes\": [{\"mem\": true}]}", "nodes[0].mem: expected a size"},
        {"{\"nodes\": [{\"mem\": \"1K\"}]}", "nodes[0].mem: 1024"},
        {"{\"nodes\": [{\"mem\": -5}]}", "nodes[0].mem: -5"},
        {"{\"nodes\": [{\"mem\": 1e300}]}", "nodes[0].mem"},
        {"{\"nodes\": [{\"mem\": \"2000T\"}]}", "nodes[0].mem"},
        {"{\"nodes\": [{\"mem\": \"1G\", \"count\": 0}]}", "nodes[0].count: 0"},
        {"{\"nodes\": [{\"mem\": \"1G\", \"count\": 1.5}]}", "nodes[0].count: 1.5"},
        {"{\"nodes\": [{\"mem\": \"1G\", \"count\": \"2\"}]}", "nodes[0].count: expected a number"},
        {"{\"nodes\": [{\"mem\": \"1G\", \"count\": 5000}]}", "nodes[0].count: 5000"},
        {"{\"nodes\": [{\"mem\": \"1G\", \"cores\": -1}]}", "nodes[0].cores: -1"},
        {"{\"nodes\": [{\"mem\": \"1G\", \"ranks\": 0}]}", "nodes[0].ranks: 0"},
        {"{\"nodes\": [{\"mem\": \"1G\", \"membw_gbs\": 0}]}", "nodes[0].membw_gbs: 0"},
        {"{\"nodes\": [{\"mem\": \"1G\", \"membw_gbs\": null}]}",
         "nodes[0].membw_gbs: expected a number"},
        {"{\"nodes\": [{\"mem\": \"1G\", \"name\": \"\"}]}", "nodes[0].name: expected a text"},
        {"{\"nodes\": [{\"mem\": \"1G\", \"name\": 7}]}", "nodes[0].name: expected a text"},
        {"{\"nodes\": [{\"mem\": \"1G\", \"name\": \"a;reboot\"}]}",
         "nodes[0].name: expected a host"},
        {"{\"nodes\": [{\"mem\": \"1G\", \"name\": \"a,b:4\"}]}", "nodes[0].name: expected a host"},
        {"{\"nodes\": [{\"mem\": \"1G\", \"name\": \"--app\"}]}", "nodes[0].name: expected a host"},
        {"{\"nodes\": [{\"mem\": \"1G\", \"name\": \"a\\u001b[2J\"}]}",
         "nodes[0].name: expected a host"},
        {"{\"nodes\": [{\"mem\": \"1G\", \"name\": \"a\\nb\"}]}", "nodes[0].name: expected a host"},
        {"{\"nodes\": [{\"mem\": \"1G\", \"memory\": 7}]}", "nodes[0].memory: no such field"},
        {"{\"nodes\": [{\"mem\": \"1G\", \"mem\": \"2G\"}]}", "duplicate"},
        {"{\"nodes\": [{\"mem\": \"1G\"}], \"latency\": 7}", "c.json.latency: no such field"},
        {"{\"nodes\": [{\"mem\": \"1G\"}], \"latency_us\": -7}", "latency_us: -7"},
        {"{\"nodes\": [{\"mem\": \"1G\"}], \"net_gbit\": \"fast\"}", "net_gbit: expected a number"},
        {"{\"nodes\": [{\"mem\": \"1G\", \"gops\": -1}]}", "nodes[0].gops: -1"},
        {"{\"nodes\": [{\"mem\": \"1G\"}], \"pair_net_gbit\": 3}",
         "pair_net_gbit: expected 1 rows"},
        {"{\"nodes\": [{\"mem\": \"1G\", \"count\": 2}], \"pair_latency_us\": [[0, 1]]}",
         "pair_latency_us: expected 2 rows"},
        {"{\"nodes\": [{\"mem\": \"1G\", \"count\": 2}], \"pair_latency_us\": [[0, 1], [0]]}",
         "pair_latency_us[1]: expected 2 numbers"},
        {"{\"nodes\": [{\"mem\": \"1G\", \"count\": 2}], \"pair_latency_us\": [[0, 1], [-3, 0]]}",
         "pair_latency_us[1].pair_latency_us: -3"},
        {"{\"nodes\": [{\"mem\": \"1G\"}]} x", "line 1"},
        {"{\"nodes\": [{\"mem\": \"1\\u00002G\"}]}", "c.json"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) refused(bad[i].json, bad[i].piece);
    part_cluster_t c = {0};
    assert_int_equal(parse("{\"nodes\": [{\"mem\": \"1G\", \"count\": 2000, \"ranks\": 2},"
                           " {\"mem\": \"1G\", \"count\": 49, \"ranks\": 2}]}",
                           &c, NULL),
                     BASE_ERR_LIMIT);
    assert_int_equal(
        parse("{\"nodes\": [{\"mem\": \"1G\", \"count\": 2000, \"ranks\": 3}]}", &c, NULL),
        BASE_ERR_LIMIT);
    assert_int_equal(
        parse("{\"nodes\": [{\"mem\": \"1G\", \"count\": 4096, \"ranks\": 1}, {\"mem\": \"1G\"}]}",
              &c, NULL),
        BASE_ERR_LIMIT);
    assert_int_equal(
        parse("{\"nodes\": [{\"mem\": \"1G\", \"count\": 4096, \"ranks\": 1}]}", &c, NULL),
        BASE_OK);
    part_cluster_free(&c);
}

/* All that a measurement can say, written and read back. */
static void written(void **state)
{
    (void)state;
    const char all[] =
        "{\"nodes\": [{\"name\": \"a\", \"mem\": 25769803777, \"cores\": 16, \"ranks\": 2,"
        " \"membw_gbs\": 31.25, \"rank_membw_gbs\": 26.5, \"gops\": 364.125, \"intra_us\": 2.5,"
        " \"screen_gbs\": 12.5, \"t2_few_gops\": [178.75, 206.5, 217.25, 208],"
        " \"t3_few_gops\": [128.5, 203, 214, 215], \"dense_few_gops\": [22.5, 38, 48, 52],"
        " \"screen_few_gops\": [36.5, 48.5, 57, 63.5],"
        " \"intra_gbs\": 7}, {\"name\": \"b\", \"mem\": \"8G\", \"ranks\": 1}, {\"name\": \"c\","
        " \"mem\": \"9G\", \"ranks\": 3}], \"latency_us\": 30.1, \"net_gbit\": 0.9, \"step_us\": "
        "40,"
        " \"layer_us\": 6.7, \"pair_latency_us\": [[7, 1, 2], [3, 7, 4], [5, 6, 7]],"
        " \"pair_net_gbit\": [[0, 10, 20], [30, 0, 40], [50, 60, null]]}";
    part_cluster_t c = {0}, back = {0};
    base_err_t     err  = {0};
    char          *text = NULL, *again = NULL;
    size_t         n = 0, m = 0;
    if (parse(all, &c, &err) != BASE_OK) fail_msg("%s", err.text);
    assert_true(c.nodes[0].rank_membw == 26.5e9 && c.nodes[0].ops == 364.125e9);
    assert_true(fabs(c.nodes[0].intra_latency - 2.5e-6) < 1e-18 && c.nodes[0].intra_bw == 7e9);
    assert_true(fabs(c.step - 40e-6) < 1e-15 && fabs(c.layer - 6.7e-6) < 1e-15);
    assert_true(fabs(part_cluster_latency(&c, 1, 2) - 4e-6) < 1e-15);
    assert_true(part_cluster_net(&c, 2, 1) == 7.5e9);
    const part_few_t few = {.t2     = {178.75e9, 206.5e9, 217.25e9, 208e9},
                            .t3     = {128.5e9, 203e9, 214e9, 215e9},
                            .dense  = {22.5e9, 38e9, 48e9, 52e9},
                            .screen = {36.5e9, 48.5e9, 57e9, 63.5e9}};
    assert_true(c.nodes[0].screen_bw == 12.5e9 && c.nodes[1].screen_bw == 0);
    assert_memory_equal(&c.nodes[0].few, &few, sizeof(few));
    assert_memory_equal(&c.nodes[1].few, &(part_few_t){0}, sizeof(few));
    assert_int_equal(part_cluster_write(&c, &text, &n, &err), BASE_OK);
    assert_int_equal(text[n - 1], '\n');
    if (part_cluster_parse(text, n, "back", 9, &back, &err) != BASE_OK) fail_msg("%s", err.text);
    assert_int_equal(back.n_nodes, 3);
    assert_int_equal(back.n_ranks, 6);
    for (uint32_t i = 0; i < 3; i++) {
        assert_string_equal(back.nodes[i].name, c.nodes[i].name);
        assert_int_equal(back.nodes[i].mem_bytes, c.nodes[i].mem_bytes);
        assert_int_equal(back.nodes[i].cores, c.nodes[i].cores);
        assert_int_equal(back.nodes[i].ranks, c.nodes[i].ranks);
        assert_true(fabs(back.nodes[i].membw - c.nodes[i].membw) < 1);
        assert_true(back.nodes[i].screen_bw == c.nodes[i].screen_bw);
        assert_memory_equal(&back.nodes[i].few, &c.nodes[i].few, sizeof(few));
        for (uint32_t b = 0; b < 3; b++) {
            if (b == i) continue;
            double want = part_cluster_latency(&c, i, b);
            assert_true(fabs(part_cluster_latency(&back, i, b) - want) < 1e-11 * want);
        }
    }
    assert_true(fabs(back.latency - 30.1e-6) < 1e-15 && fabs(back.net - 0.1125e9) < 1);
    assert_int_equal(part_cluster_write(&back, &again, &m, &err), BASE_OK);
    assert_string_equal(text, again);
    free(again);
    part_cluster_free(&back);

    /* A choice of nodes keeps what belongs to them. */
    const uint32_t nodes[] = {2, 0};
    assert_int_equal(part_cluster_pick(&c, nodes, 2, &back, &err), BASE_OK);
    assert_int_equal(back.n_ranks, 5);
    assert_int_equal(back.nodes[1].rank0, 3);
    assert_string_equal(back.nodes[1].name, "a");
    assert_memory_equal(&back.nodes[1].few, &few, sizeof(few));
    assert_true(part_cluster_latency(&back, 0, 1) == part_cluster_latency(&c, 2, 0));
    assert_true(part_cluster_net(&back, 1, 0) == part_cluster_net(&c, 0, 2));
    part_cluster_free(&back);
    part_cluster_free(&c);
    free(text);
}

static void saved(void **state)
{
    (void)state;
    part_cluster_t c = {0}, back = {0};
    part_node_t    node   = {.mem_bytes = UINT64_C(3) << 30, .ranks = 1};
    char           path[] = "/tmp/trireme-cluster-XXXXXX", inside[64];
    base_err_t     err    = {0};
    int            fd     = mkstemp(path);
    assert_true(fd >= 0);
    (void)close(fd);
    assert_int_equal(part_cluster_uniform(2, &node, -1, 0, &c, NULL), BASE_OK);
    if (part_cluster_save(&c, path, &err) != BASE_OK) fail_msg("%s", err.text);
    if (part_cluster_load(path, 4, &back, &err) != BASE_OK) fail_msg("%s", err.text);
    assert_int_equal(back.n_ranks, 2); /* it says its ranks */
    assert_true(back.latency < 0 && back.net == 0 && back.nodes[1].membw == 0);
    part_cluster_free(&back);
    (void)snprintf(inside, sizeof(inside), "%s/c.json", path); /* a file is no folder */
    assert_int_equal(part_cluster_save(&c, inside, &err), BASE_ERR_IO);
    assert_non_null(strstr(err.text, inside));
    part_cluster_free(&c);
    (void)remove(path);
}

/* Whatever the bytes: a status, no crash, nothing leaked. */
static void hostile_files(void **state)
{
    (void)state;
    const char whole[] =
        "{\"nodes\": [{\"name\": \"big\", \"count\": 2, \"mem\": \"384G\", \"cores\": 32, "
        "\"membw_gbs\": 1.5, \"ranks\": 1, \"t2_few_gops\": [1, 2, 3, 4]}], \"latency_us\": 3, "
        "\"net_gbit\": 10,"
        " \"pair_latency_us\": [[0, 1], [2, 0]]}";
    const size_t n    = sizeof(whole) - 1;
    uint64_t     seed = 9;
    for (uint32_t round = 0; round < 60000; round++) {
        size_t length = round < n ? round : n;
        char  *copy   = malloc(length + 1); /* not NUL-terminated */
        assert_non_null(copy);
        memcpy(copy, whole, length);
        for (uint32_t i = 0; round >= n && i < 1 + round % 3; i++)
            copy[fixture_random(&seed) % length] = (char)fixture_random(&seed);
        part_cluster_t c = {0};
        if (part_cluster_parse(copy, length, "c.json", 1, &c, NULL) == BASE_OK) {
            assert_true(c.n_nodes >= 1 && c.n_ranks >= c.n_nodes && c.n_ranks <= LIMIT_RANKS);
            part_cluster_free(&c);
        }
        free(copy);
    }
}

static void files(void **state)
{
    (void)state;
    part_cluster_t c   = {0};
    base_err_t     err = {0};
    assert_int_equal(part_cluster_load("/nonexistent/c.json", 1, &c, &err), BASE_ERR_IO);
    assert_non_null(strstr(err.text, "/nonexistent/c.json"));
    assert_int_equal(part_cluster_load("/", 1, &c, &err), BASE_ERR_IO);
    assert_int_equal(part_cluster_load("/dev/zero", 1, &c, &err), BASE_ERR_LIMIT);
    assert_int_equal(part_cluster_load("/dev/null", 1, &c, &err), BASE_ERR_INPUT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes),         cmocka_unit_test(good_file), cmocka_unit_test(bad_files),
        cmocka_unit_test(bad_few),       cmocka_unit_test(written),   cmocka_unit_test(saved),
        cmocka_unit_test(hostile_files), cmocka_unit_test(files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
