/* Counts float32 values by their upper 16 bits, in one pass that also keeps the exact minimum and
 * maximum; the GIL is released meanwhile. histogram.py has the same in NumPy, bit for bit.
 *
 * Two things make it fast. Values are loaded in pairs, as one 64-bit word. And zeros, which are
 * half of what a Relu writes, rotate over eight spare counters: incrementing one counter again and
 * again would wait for its own store each time. About 0.6 ns a value, zeros or not, at -O2; -O3
 * vectorizes the bounds in a way that costs a third more.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

enum { BINS = 65536, SPARE = 8 };

#define PAIR(k)                                                                 \
    {                                                                           \
        uint64_t pair;                                                          \
        memcpy(&pair, x + i + (k), 8);                                          \
        uint32_t a = (pair >> 16) & 0xFFFF, b = (uint32_t)(pair >> 48);         \
        a = a ? a : BINS + (k);                                                 \
        b = b ? b : BINS + (k) + 1;                                             \
        counts[a]++;                                                            \
        counts[b]++;                                                            \
    }

static void count(int64_t *counts, float *minmax, const float *x, Py_ssize_t n)
{
    int64_t *zeros = counts + BINS;
    float low[8], high[8];
    Py_ssize_t i = 0;
    for (int k = 0; k < 8; k++) {
        low[k] = minmax[0];
        high[k] = minmax[1];
    }
    for (; i + 8 <= n; i += 8) {
        for (int k = 0; k < 8; k++) { /* comparisons with NaN are false: NaN is left out */
            float v = x[i + k];
            low[k] = v < low[k] ? v : low[k];
            high[k] = v > high[k] ? v : high[k];
        }
        PAIR(0)
        PAIR(2)
        PAIR(4)
        PAIR(6)
    }
    for (; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, 4);
        counts[bits >> 16]++;
        low[0] = x[i] < low[0] ? x[i] : low[0];
        high[0] = x[i] > high[0] ? x[i] : high[0];
    }
    for (int k = 0; k < SPARE; k++) {
        counts[0] += zeros[k];
        zeros[k] = 0;
        minmax[0] = low[k] < minmax[0] ? low[k] : minmax[0];
        minmax[1] = high[k] > minmax[1] ? high[k] : minmax[1];
    }
}

static PyObject *py_count(PyObject *self, PyObject *args)
{
    PyObject *objects[3];
    Py_buffer counts, minmax, x;
    (void)self;
    if (!PyArg_ParseTuple(args, "OOO", &objects[0], &objects[1], &objects[2]))
        return NULL;
    if (PyObject_GetBuffer(objects[0], &counts, PyBUF_WRITABLE) < 0)
        return NULL;
    if (PyObject_GetBuffer(objects[1], &minmax, PyBUF_WRITABLE) < 0)
        goto release_counts;
    if (PyObject_GetBuffer(objects[2], &x, PyBUF_SIMPLE) < 0)
        goto release_minmax;
    if (counts.len != (BINS + SPARE) * 8 || minmax.len != 8 || x.len % 4) {
        PyErr_SetString(PyExc_ValueError,
                        "count() takes 65544 int64 counts, 2 float32 bounds and float32 values");
    } else {
        Py_BEGIN_ALLOW_THREADS
        count(counts.buf, minmax.buf, x.buf, x.len / 4);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&x);
release_minmax:
    PyBuffer_Release(&minmax);
release_counts:
    PyBuffer_Release(&counts);
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"count", py_count, METH_VARARGS,
     "count(counts, minmax, x): add the float32 values of x to counts and minmax, in place"},
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
