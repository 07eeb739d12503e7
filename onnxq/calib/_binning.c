/* Counts float32 values by their upper 16 bits, in one pass that also keeps the exact minimum and
 * maximum; the GIL is released meanwhile. histogram.py has the same in NumPy, bit for bit.
 *
 * What makes it fast: incrementing one counter again and again would wait for its own store each
 * time, so neighbours go to four tables, and every second zero, which are half of what a Relu
 * writes, to a spare counter in front of its table. Values are asked for a page ahead: between
 * scattered increments the processor does not see that they are read in order, and waits for each
 * line. About 0.4 ns a value, in the cache or not, zeros or not.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#ifdef __GNUC__
#define PREFETCH(x) __builtin_prefetch(x)
#else
#define PREFETCH(x)
#endif

enum { BINS = 65536, SPARE = 16, TABLES = 4, AHEAD = 1024 };

/* The eight values at x, bounded lane by lane: a comparison with NaN leaves the bound as it is. */
#ifdef __SSE2__
typedef struct {
    __m128 lanes[2];
} Bound;

static Bound bound(float v)
{
    Bound b = {{_mm_set1_ps(v), _mm_set1_ps(v)}};
    return b;
}

static inline void widen(Bound *low, Bound *high, const float *x)
{
    for (int k = 0; k < 2; k++) {
        __m128 v = _mm_loadu_ps(x + 4 * k);
        low->lanes[k] = _mm_min_ps(v, low->lanes[k]); /* the second operand where v is NaN */
        high->lanes[k] = _mm_max_ps(v, high->lanes[k]);
    }
}
#else
typedef struct {
    float lanes[8];
} Bound;

static Bound bound(float v)
{
    Bound b;
    for (int k = 0; k < 8; k++)
        b.lanes[k] = v;
    return b;
}

static inline void widen(Bound *low, Bound *high, const float *x)
{
    for (int k = 0; k < 8; k++) {
        low->lanes[k] = x[k] < low->lanes[k] ? x[k] : low->lanes[k];
        high->lanes[k] = x[k] > high->lanes[k] ? x[k] : high->lanes[k];
    }
}
#endif

static inline uint32_t bits(const float *x)
{
    uint32_t u;
    memcpy(&u, x, 4);
    return u >> 16;
}

static void count(uint32_t *tables, float *minmax, const float *x, Py_ssize_t n)
{
    uint32_t *t[TABLES];
    float lows[8], highs[8];
    Bound low = bound(minmax[0]), high = bound(minmax[1]);
    Py_ssize_t i = 0;
    for (int k = 0; k < TABLES; k++)
        t[k] = tables + k * (SPARE + BINS) + SPARE;
    for (; i + 8 <= n; i += 8) {
        const float *v = x + i;
        uint32_t a = bits(v + 4), b = bits(v + 5), c = bits(v + 6), d = bits(v + 7);
        PREFETCH(v + AHEAD);
        widen(&low, &high, v);
        t[0][bits(v)]++;
        t[1][bits(v + 1)]++;
        t[2][bits(v + 2)]++;
        t[3][bits(v + 3)]++;
        t[0][(Py_ssize_t)a - (a < 1)]++; /* zero: the spare counter in front */
        t[1][(Py_ssize_t)b - (b < 1)]++;
        t[2][(Py_ssize_t)c - (c < 1)]++;
        t[3][(Py_ssize_t)d - (d < 1)]++;
    }
    memcpy(lows, &low, sizeof lows);
    memcpy(highs, &high, sizeof highs);
    for (int k = 0; k < 8; k++) {
        minmax[0] = lows[k] < minmax[0] ? lows[k] : minmax[0];
        minmax[1] = highs[k] > minmax[1] ? highs[k] : minmax[1];
    }
    for (; i < n; i++) {
        t[0][bits(x + i)]++;
        minmax[0] = x[i] < minmax[0] ? x[i] : minmax[0];
        minmax[1] = x[i] > minmax[1] ? x[i] : minmax[1];
    }
}

static PyObject *py_count(PyObject *self, PyObject *args)
{
    PyObject *objects[3];
    Py_buffer tables, minmax, x;
    (void)self;
    if (!PyArg_ParseTuple(args, "OOO", &objects[0], &objects[1], &objects[2]))
        return NULL;
    if (PyObject_GetBuffer(objects[0], &tables, PyBUF_WRITABLE) < 0)
        return NULL;
    if (PyObject_GetBuffer(objects[1], &minmax, PyBUF_WRITABLE) < 0)
        goto release_tables;
    if (PyObject_GetBuffer(objects[2], &x, PyBUF_SIMPLE) < 0)
        goto release_minmax;
    if (tables.len != TABLES * (SPARE + BINS) * 4 || minmax.len != 8 || x.len % 4) {
        PyErr_SetString(PyExc_ValueError,
                        "count() takes 4 x 65552 uint32 counts, 2 float32 bounds and float32 values");
    } else {
        Py_BEGIN_ALLOW_THREADS
        count(tables.buf, minmax.buf, x.buf, x.len / 4);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&x);
release_minmax:
    PyBuffer_Release(&minmax);
release_tables:
    PyBuffer_Release(&tables);
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"count", py_count, METH_VARARGS,
     "count(tables, minmax, x): add the float32 values of x to tables and minmax, in place"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_binning", "Compiled binning for histogram.py", -1, methods,
    NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__binning(void)
{
    return PyModule_Create(&module);
}
