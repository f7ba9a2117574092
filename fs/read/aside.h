/* aside.h - keeping a thread off the processor of whoever it works for. */
#ifndef SNAPTREE_ASIDE_H
#define SNAPTREE_ASIDE_H

#define ASIDE_ANYWHERE (-1) /* in the place of a processor: no need to keep off any */

/*
 * The calling thread is about to work for a thread on this processor, as sched_getcpu() numbers
 * them. When it has been so for a while, and there is another processor that the calling thread may
 * run on, it stays off this one from now on; until it is told otherwise for a while.
 */
void aside_stay(int processor);

#endif
