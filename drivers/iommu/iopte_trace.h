/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Tracepoints of the page layer and the radix layer of io-pgtable: what becomes of
 * the tables of a page table, and what is reserved.
 *
 * A page table is known by a number of its own, and a table by its physical
 * address, as the walker knows it.  The words are those of iopte.h and
 * iopte-reserve.c.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM iopte

#if !defined(__IOPTE_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define __IOPTE_TRACE_H

#include <linux/io.h>
#include <linux/tracepoint.h>
#include <linux/types.h>

DECLARE_EVENT_CLASS(iopte_table,
		    TP_PROTO(u32 pgtable, const void *table, size_t size),
		    TP_ARGS(pgtable, table, size),
		    TP_STRUCT__entry(__field(u64, table)
				     __field(size_t, size)
				     __field(u32, pgtable)),
		    TP_fast_assign(__entry->table = virt_to_phys((void *)table);
				   __entry->size = size;
				   __entry->pgtable = pgtable;),
		    TP_printk("pgtable=%u table=0x%llx size=%zu",
			      __entry->pgtable,
			      __entry->table,
			      __entry->size)
);

/* A table, or a root, has been taken from the allocator. */
DEFINE_EVENT(iopte_table, iopte_alloc,
	     TP_PROTO(u32 pgtable, const void *table, size_t size),
	     TP_ARGS(pgtable, table, size)
);

/* No walker can reach it any more, and it goes back. */
DEFINE_EVENT(iopte_table, iopte_free,
	     TP_PROTO(u32 pgtable, const void *table, size_t size),
	     TP_ARGS(pgtable, table, size)
);

DECLARE_EVENT_CLASS(iopte_parked,
		    TP_PROTO(u32 pgtable, const void *table,
			     const void *parent, unsigned int slot),
		    TP_ARGS(pgtable, table, parent, slot),
		    TP_STRUCT__entry(__field(u64, table)
				     __field(u64, parent)
				     __field(u32, pgtable)
				     __field(u32, slot)),
		    TP_fast_assign(__entry->table = virt_to_phys((void *)table);
				   __entry->parent = virt_to_phys((void *)parent);
				   __entry->pgtable = pgtable;
				   __entry->slot = slot;),
		    TP_printk("pgtable=%u table=0x%llx parent=0x%llx slot=%u",
			      __entry->pgtable,
			      __entry->table,
			      __entry->parent,
			      __entry->slot)
);

/* A table stays with its parent, and is not linked, until iopte_unpark or iopte_free. */
DEFINE_EVENT(iopte_parked, iopte_park,
	     TP_PROTO(u32 pgtable, const void *table,
		      const void *parent, unsigned int slot),
	     TP_ARGS(pgtable, table, parent, slot)
);

/* A parked table has been linked in its slot. */
DEFINE_EVENT(iopte_parked, iopte_unpark,
	     TP_PROTO(u32 pgtable, const void *table,
		      const void *parent, unsigned int slot),
	     TP_ARGS(pgtable, table, parent, slot)
);

/* How the reservation of a range that can be reserved has ended. */
TRACE_EVENT(iopte_reserve,
	    TP_PROTO(u32 pgtable, u64 iova, u64 size, u64 pgsize,
		     int ret),
	    TP_ARGS(pgtable, iova, size, pgsize, ret),
	    TP_STRUCT__entry(__field(u64, iova)
			     __field(u64, size)
			     __field(u64, pgsize)
			     __field(u32, pgtable)
			     __field(int, ret)),
	    TP_fast_assign(__entry->iova = iova;
			   __entry->size = size;
			   __entry->pgsize = pgsize;
			   __entry->pgtable = pgtable;
			   __entry->ret = ret;),
	    TP_printk("pgtable=%u iova=0x%llx size=0x%llx pgsize=0x%llx ret=%d",
		      __entry->pgtable,
		      __entry->iova,
		      __entry->size,
		      __entry->pgsize,
		      __entry->ret)
);

/* @done: whether it had been reserved. */
TRACE_EVENT(iopte_unreserve,
	    TP_PROTO(u32 pgtable, u64 iova, u64 size, u64 pgsize,
		     bool done),
	    TP_ARGS(pgtable, iova, size, pgsize, done),
	    TP_STRUCT__entry(__field(u64, iova)
			     __field(u64, size)
			     __field(u64, pgsize)
			     __field(u32, pgtable)
			     __field(bool, done)),
	    TP_fast_assign(__entry->iova = iova;
			   __entry->size = size;
			   __entry->pgsize = pgsize;
			   __entry->pgtable = pgtable;
			   __entry->done = done;),
	    TP_printk("pgtable=%u iova=0x%llx size=0x%llx pgsize=0x%llx done=%d",
		      __entry->pgtable,
		      __entry->iova,
		      __entry->size,
		      __entry->pgsize,
		      __entry->done)
);

#endif /* __IOPTE_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE iopte_trace
#include <trace/define_trace.h>
