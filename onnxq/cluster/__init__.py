"""Work handed to an executor: other threads, processes or machines, with the result of this one."""
