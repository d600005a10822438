/* launch/plan_svg.c: the picture of --scale, written by hand: axes, two curves, a legend. */
#include "launch/plan_svg.h"

#include <math.h>

enum { WIDTH = 760, HEIGHT = 460, LEFT = 80, RIGHT = 30, TOP = 60, BOTTOM = 70, TICKS_MAX = 16 };

/* Logarithms to base 2 of what the axes span. */
typedef struct {
    double x0, x1, y0, y1;
} axes_t;

static double at_x(const axes_t *a, double nodes)
{
    return LEFT + (log2(nodes) - a->x0) / (a->x1 - a->x0) * (WIDTH - LEFT - RIGHT);
}

static double at_y(const axes_t *a, double tokens_s)
{
    return HEIGHT - BOTTOM - (log2(tokens_s) - a->y0) / (a->y1 - a->y0) * (HEIGHT - TOP - BOTTOM);
}

static axes_t axes_of(const plan_point_t *points, uint32_t n)
{
    axes_t a = {INFINITY, -INFINITY, INFINITY, -INFINITY};

    for (uint32_t i = 0; i < n; i++) {
        const plan_point_t *p = &points[i];
        if (!p->fits) continue;
        a.x0 = fmin(a.x0, log2(p->nodes));
        a.x1 = fmax(a.x1, log2(p->nodes));
        a.y0 = fmin(a.y0, fmin(log2(p->tokens_s), log2(p->ideal_tokens_s)));
        a.y1 = fmax(a.y1, fmax(log2(p->tokens_s), log2(p->ideal_tokens_s)));
    }
    a.y0 = floor(a.y0);
    a.y1 = ceil(a.y1);
    if (!(a.x1 > a.x0)) a.x1 = a.x0 + 1;
    if (!(a.y1 > a.y0)) a.y1 = a.y0 + 1;
    return a;
}

/* Text of a file: what XML reserves, and controls, do not get through. */
static void print_escaped(const char *text, FILE *out)
{
    for (const char *c = text; *c != '\0'; c++) {
        if (*c == '<' || *c == '>' || *c == '&')
            (void)fprintf(out, "&#%d;", *c);
        else
            (void)fputc((unsigned char)*c < ' ' || (unsigned char)*c > '~' ? '?' : *c, out);
    }
}

static void print_head(const char *model, const char *goal, FILE *out)
{
    (void)fprintf(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" "
        "height=\"%d\" font-family=\"sans-serif\" font-size=\"13\">\n"
        "<style>text{fill:#555}.t{font-size:16px;fill:#222}.g{stroke:#888;stroke-opacity:.4}"
        ".a{stroke:#888;stroke-width:1.5;fill:none}.i{stroke:#999;stroke-width:2;"
        "stroke-dasharray:7 5;fill:none}.p{stroke:#2a7de1;stroke-width:2.5;fill:none}"
        ".d{fill:#2a7de1}@media(prefers-color-scheme:dark){text{fill:#aaa}.t{fill:#eee}}"
        "</style>\n<text class=\"t\" x=\"%d\" y=\"26\">",
        WIDTH, HEIGHT, WIDTH, HEIGHT, LEFT);
    print_escaped(model, out);
    (void)fprintf(out, "</text>\n<text x=\"%d\" y=\"46\">", LEFT);
    print_escaped(goal, out);
    (void)fprintf(out, "</text>\n");
}

static void print_axes(const axes_t *a, FILE *out)
{
    const double step_x = fmax(1, ceil((a->x1 - a->x0) / TICKS_MAX));
    const double step_y = fmax(1, ceil((a->y1 - a->y0) / TICKS_MAX));

    for (double x = ceil(a->x0); x <= a->x1 + 1e-9; x += step_x) {
        const double px = at_x(a, exp2(x));
        (void)fprintf(out, "<path class=\"g\" d=\"M%.1f %dV%d\"/>\n", px, TOP, HEIGHT - BOTTOM);
        (void)fprintf(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.0f</text>\n", px,
                      HEIGHT - BOTTOM + 20, exp2(x));
    }
    for (double y = a->y0; y <= a->y1 + 1e-9; y += step_y) {
        const double py = at_y(a, exp2(y));
        (void)fprintf(out, "<path class=\"g\" d=\"M%d %.1fH%d\"/>\n", LEFT, py, WIDTH - RIGHT);
        (void)fprintf(out, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.4g</text>\n", LEFT - 8,
                      py + 4, exp2(y));
    }
    (void)fprintf(out, "<path class=\"a\" d=\"M%d %dV%dH%d\"/>\n", LEFT, TOP, HEIGHT - BOTTOM,
                  WIDTH - RIGHT);
    (void)fprintf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">nodes</text>\n",
                  (LEFT + WIDTH - RIGHT) / 2, HEIGHT - BOTTOM + 42);
    (void)fprintf(out,
                  "<text transform=\"translate(22 %d) rotate(-90)\" text-anchor=\"middle\">tokens/s"
                  "</text>\n",
                  (TOP + HEIGHT - BOTTOM) / 2);
}

static void print_curve(const axes_t *a, const plan_point_t *points, uint32_t n, bool ideal,
                        FILE *out)
{
    char command = 'M';

    (void)fprintf(out, "<path class=\"%s\" d=\"", ideal ? "i" : "p");
    for (uint32_t i = 0; i < n; i++) {
        const plan_point_t *p = &points[i];
        if (!p->fits) continue;
        (void)fprintf(out, "%c%.1f %.1f", command, at_x(a, p->nodes),
                      at_y(a, ideal ? p->ideal_tokens_s : p->tokens_s));
        command = 'L';
    }
    (void)fprintf(out, "\"/>\n");
    for (uint32_t i = 0; i < n && !ideal; i++) {
        const plan_point_t *p = &points[i];
        if (!p->fits) continue;
        (void)fprintf(out,
                      "<circle class=\"d\" cx=\"%.1f\" cy=\"%.1f\" r=\"4\"><title>%u nodes, %ux%u: "
                      "%.4g tokens/s, %.0f %% of ideal</title></circle>\n",
                      at_x(a, p->nodes), at_y(a, p->tokens_s), p->nodes, p->stages, p->shards,
                      p->tokens_s, p->efficiency * 100);
    }
}

void plan_svg(const plan_point_t *points, uint32_t n, const char *model, const char *goal,
              FILE *out)
{
    const axes_t a   = axes_of(points, n);
    bool         any = false;

    print_head(model, goal, out);
    for (uint32_t i = 0; i < n; i++) any = any || points[i].fits;
    if (any) {
        print_axes(&a, out);
        print_curve(&a, points, n, true, out);
        print_curve(&a, points, n, false, out);
        (void)fprintf(
            out,
            "<path class=\"i\" d=\"M%d %dh40\"/><text x=\"%d\" y=\"%d\">ideal</text>\n"
            "<path class=\"p\" d=\"M%d %dh40\"/><text x=\"%d\" y=\"%d\">predicted</text>\n",
            LEFT + 20, TOP + 18, LEFT + 68, TOP + 22, LEFT + 20, TOP + 38, LEFT + 68, TOP + 42);
    } else {
        (void)fprintf(out, "<text x=\"%d\" y=\"%d\">does not fit</text>\n", LEFT, HEIGHT / 2);
    }
    (void)fprintf(out, "</svg>\n");
}
