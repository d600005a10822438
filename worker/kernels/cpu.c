/* worker/kernels/cpu.c
 * Which bundles this CPU and its operating system offer. CPUID alone is not enough: without the
 * system's consent (XGETBV) the wide registers are lost at a context switch. */
#include "worker/kernels/kernel.h"

#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>

enum {
    FAMILY_ZEN4       = 25, /* with AVX-512; its elder siblings have none */
    LEAF1_ECX_FMA     = 1u << 12,
    LEAF1_ECX_OSXSAVE = 1u << 27,
    LEAF1_ECX_F16C    = 1u << 29,
    LEAF7_EBX_AVX2    = 1u << 5,
    LEAF7_EBX_F_DQ    = 1u << 16 | 1u << 17,
    LEAF7_EBX_BW      = 1u << 30,
    LEAF7_ECX_VBMI    = 1u << 1,
    LEAF7_ECX_VNNI    = 1u << 11,
    XCR0_YMM          = 0x06, /* SSE and AVX state */
    XCR0_ZMM          = 0xe6, /* and opmask, upper halves, high registers */
};
static const uint32_t LEAF7_EBX_VL = 1u << 31; /* no int holds it, so no enumerator may */

static uint32_t xcr0_low(void)
{
    uint32_t eax = 0, edx = 0;
    __asm__ volatile("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
    return eax;
}

static bool has_all(uint32_t have, uint32_t bits)
{
    return (have & bits) == bits;
}

static bool is_amd_family(uint32_t family)
{
    uint32_t a = 0, b = 0, c = 0, d = 0;

    if (!__get_cpuid(0, &a, &b, &c, &d)) return false;
    if (b != signature_AMD_ebx || c != signature_AMD_ecx || d != signature_AMD_edx) return false;
    /* The base family is 15 wherever an extended one is added. */
    return __get_cpuid(1, &a, &b, &c, &d) && ((a >> 8 & 0xf) + (a >> 20 & 0xff)) == family;
}

uint32_t kern_cpu_features(void)
{
    uint32_t a = 0, b = 0, c1 = 0, d = 0, b7 = 0, c7 = 0;

    if (!__get_cpuid(1, &a, &b, &c1, &d)) return 0;
    if (!has_all(c1, LEAF1_ECX_OSXSAVE | LEAF1_ECX_FMA | LEAF1_ECX_F16C)) return 0;
    if (!__get_cpuid_count(7, 0, &a, &b7, &c7, &d)) return 0;

    const uint32_t xcr0 = xcr0_low();
    if (!has_all(xcr0, XCR0_YMM) || !has_all(b7, LEAF7_EBX_AVX2)) return 0;

    uint32_t features = KERN_CPU_AVX2;
    if (has_all(xcr0, XCR0_ZMM) && has_all(b7, LEAF7_EBX_F_DQ | LEAF7_EBX_BW | LEAF7_EBX_VL) &&
        has_all(c7, LEAF7_ECX_VNNI)) {
        features |= KERN_CPU_AVX512VNNI;
        if (has_all(c7, LEAF7_ECX_VBMI)) features |= KERN_CPU_AVX512VBMI;
        if (has_all(c7, LEAF7_ECX_VBMI) && is_amd_family(FAMILY_ZEN4)) features |= KERN_CPU_ZEN4;
    }
    return features;
}

#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>

/* From the kernel's arch/arm64 ABI; older headers lack the second. */
enum { HWCAP_BIT_ASIMD = 1u << 1, HWCAP_BIT_ASIMDDP = 1u << 20, HWCAP2_BIT_I8MM = 1u << 13 };

uint32_t kern_cpu_features(void)
{
    const unsigned long first    = getauxval(AT_HWCAP);
    uint32_t            features = 0;

    if ((first & HWCAP_BIT_ASIMD) == 0) return 0;
    features = KERN_CPU_NEON;
    if ((first & HWCAP_BIT_ASIMDDP) == 0) return features;
    features |= KERN_CPU_DOTPROD;
    if ((getauxval(AT_HWCAP2) & HWCAP2_BIT_I8MM) != 0) features |= KERN_CPU_I8MM;
    return features;
}

#else

uint32_t kern_cpu_features(void)
{
    return 0;
}

#endif

/* Weak to strong for each architecture; a mask holds all weaker bundles too. */
static const struct {
    const char *name;
    uint32_t    mask;
} BUNDLES[] = {
    {"ref", 0},
    {"avx2", KERN_CPU_AVX2},
    {"avx512vnni", KERN_CPU_AVX2 | KERN_CPU_AVX512VNNI},
    {"avx512vbmi", KERN_CPU_AVX2 | KERN_CPU_AVX512VNNI | KERN_CPU_AVX512VBMI},
    {"zen4", KERN_CPU_AVX2 | KERN_CPU_AVX512VNNI | KERN_CPU_AVX512VBMI | KERN_CPU_ZEN4},
    {"neon", KERN_CPU_NEON},
    {"dotprod", KERN_CPU_NEON | KERN_CPU_DOTPROD},
    {"i8mm", KERN_CPU_NEON | KERN_CPU_DOTPROD | KERN_CPU_I8MM},
};
enum { N_BUNDLES = sizeof(BUNDLES) / sizeof(BUNDLES[0]) };

bool kern_cpu_mask_parse(const char *name, uint32_t *mask)
{
    for (size_t i = 0; i < N_BUNDLES; i++) {
        if (strcmp(name, BUNDLES[i].name) == 0) {
            *mask = BUNDLES[i].mask;
            return true;
        }
    }
    return false;
}

const char *kern_cpu_name(uint32_t features)
{
    const char *name = BUNDLES[0].name;

    for (size_t i = 0; i < N_BUNDLES; i++) {
        if ((features & BUNDLES[i].mask) == BUNDLES[i].mask) name = BUNDLES[i].name;
    }
    return name;
}
