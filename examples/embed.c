/* A program with Python in it: select a target for this machine, compile LLVM IR for it, and call the code.

   cc embed.c -o embed $(python3-config --includes --ldflags --embed)
   ./embed .venv/bin/python3

   The argument is an interpreter of the same version of Python where cpufeat is installed: by its place Python finds the
   packages, and cpufeat starts it as the process in which LLVM runs. In a program that is installed without one,
   set PYTHONPATH or PyConfig's module_search_paths, and pass isolation="none" to aot.compile. */

#include <Python.h>
#include <stdio.h>

static const char IR[] = "define i32 @twice(i32 %x) { %y = shl i32 %x, 1\n ret i32 %y }";

int main(int argc, char **argv) {
    PyConfig config;
    PyConfig_InitPythonConfig(&config);
    PyStatus status = PyConfig_SetBytesString(&config, &config.executable, argc > 1 ? argv[1] : argv[0]);
    if (!PyStatus_Exception(status)) status = Py_InitializeFromConfig(&config);
    PyConfig_Clear(&config);
    if (PyStatus_Exception(status)) Py_ExitStatusException(status);

    PyObject *cpufeat = PyImport_ImportModule("cpufeat");
    PyObject *aot = cpufeat ? PyImport_ImportModule("cpufeat.aot") : NULL;
    PyObject *target = aot ? PyObject_CallMethod(cpufeat, "target_for_host", NULL) : NULL;
    PyObject *artifact = target ? PyObject_CallMethod(aot, "compile", "sO", IR, target) : NULL;
    PyObject *library = artifact ? PyObject_CallMethod(artifact, "load", NULL) : NULL;
    PyObject *address = library ? PyMapping_GetItemString(library, "twice") : NULL;
    if (!address) {
        PyErr_Print(); /* the last line of it is cpufeat's message */
        return 1;
    }
    int (*twice)(int) = (int (*)(int))PyLong_AsVoidPtr(address);
    printf("%d\n", twice(21)); /* while library is held */

    Py_DECREF(address);
    Py_DECREF(library);
    Py_DECREF(artifact);
    Py_DECREF(target);
    Py_DECREF(aot);
    Py_DECREF(cpufeat);
    return Py_FinalizeEx() ? 1 : 0;
}
