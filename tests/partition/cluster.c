/* Cluster descriptions: what a file may say, and errors that name the field. */
#include <math.h>

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
        {"{\"nodes\": [{\"mem\": \"1G\", \"memory\": 7}]}", "nodes[0].memory: no such field"},
        {"{\"nodes\": [{\"mem\": \"1G\", \"mem\": \"2G\"}]}", "duplicate"},
        {"{\"nodes\": [{\"mem\": \"1G\"}], \"latency\": 7}", "c.json.latency: no such field"},
        {"{\"nodes\": [{\"mem\": \"1G\"}], \"latency_us\": -7}", "latency_us: -7"},
        {"{\"nodes\": [{\"mem\": \"1G\"}], \"net_gbit\": \"fast\"}", "net_gbit: expected a number"},
        {"{\"nodes\": [{\"mem\": \"1G\"}]} x", "line 1"},
        {"{\"nodes\": [{\"mem\": \"1\\u00002G\"}]}", "c.json"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        part_cluster_t c   = {0};
        base_err_t     err = {0};
        base_status_t  st  = parse(bad[i].json, &c, &err);
        if (st != BASE_ERR_INPUT) fail_msg("%s: status %d", bad[i].json, (int)st);
        if (strstr(err.text, bad[i].piece) == NULL)
            fail_msg("%s: '%s' lacks '%s'", bad[i].json, err.text, bad[i].piece);
        assert_null(c.nodes);
    }
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

/* Whatever the bytes: a status, no crash, nothing leaked. */
static void hostile_files(void **state)
{
    (void)state;
    const char whole[] =
        "{\"nodes\": [{\"name\": \"big\", \"count\": 2, \"mem\": \"384G\", \"cores\": 32, "
        "\"membw_gbs\": 1.5, \"ranks\": 1}], \"latency_us\": 3, \"net_gbit\": 10}";
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
        cmocka_unit_test(hostile_files), cmocka_unit_test(files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
