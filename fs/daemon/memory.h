/* memory.h - what the C library keeps of the memory that was freed. Thread-safe. */
#ifndef SNAPTREE_MEMORY_H
#define SNAPTREE_MEMORY_H

/* From now on large blocks that are freed go back to the system, in whichever thread. */
void memory_tune(void);
/* Give back small ones as well, now: for after something that may have had very many. */
void memory_give_back(void);

#endif
