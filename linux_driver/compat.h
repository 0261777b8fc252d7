/* SPDX-License-Identifier: GPL-2.0-only */
/* Every difference between the kernels that this is built for, 6.1 and 6.12. */
#ifndef ATDD_COMPAT_H
#define ATDD_COMPAT_H

#include <linux/blk-mq.h>
#include <linux/blkdev.h>
#include <net/sock.h>

#ifdef BLK_FEAT_STABLE_WRITES
#include <crypto/utils.h>
#else
#include <crypto/algapi.h>
#endif

/*
 * No page fragments of the task's own, which it may be in the middle of using. 6.1
 * sees that by sk_allocation; only its newer releases have this member.
 */
static inline void atdd_use_no_task_frag(struct sock *sk)
{
#ifdef BLK_FEAT_STABLE_WRITES
	sk->sk_use_task_frag = false;
#endif
}

/* What a disk of this driver can do. */
struct atdd_limits {
	unsigned int sector_size;	/* bytes */
	unsigned int request_sectors;	/* of 512 bytes, the most of a request */
	unsigned int discard_sectors;	/* of 512 bytes; 0: no discards */
};

static inline struct gendisk *atdd_alloc_disk(struct blk_mq_tag_set *tags,
					      const struct atdd_limits *limits,
					      void *data)
{
#ifdef BLK_FEAT_STABLE_WRITES	/* limits are set with the disk's making */
	struct queue_limits lim = {
		.logical_block_size = limits->sector_size,
		.physical_block_size = limits->sector_size,
		.io_min = limits->sector_size,
		.max_hw_sectors = limits->request_sectors,
		.max_segments = USHRT_MAX,
		.max_hw_discard_sectors = limits->discard_sectors,
		.max_write_zeroes_sectors = limits->discard_sectors,
		.discard_granularity = limits->sector_size,
	};

	return blk_mq_alloc_disk(tags, &lim, data);
#else
	struct gendisk *disk = blk_mq_alloc_disk(tags, data);

	if (IS_ERR(disk))
		return disk;
	blk_queue_logical_block_size(disk->queue, limits->sector_size);
	blk_queue_physical_block_size(disk->queue, limits->sector_size);
	blk_queue_io_min(disk->queue, limits->sector_size);
	blk_queue_max_hw_sectors(disk->queue, limits->request_sectors);
	blk_queue_max_segments(disk->queue, USHRT_MAX);
	blk_queue_max_discard_sectors(disk->queue, limits->discard_sectors);
	blk_queue_max_write_zeroes_sectors(disk->queue, limits->discard_sectors);
	disk->queue->limits.discard_granularity = limits->sector_size;
	blk_queue_flag_set(QUEUE_FLAG_NONROT, disk->queue);
	blk_queue_flag_clear(QUEUE_FLAG_ADD_RANDOM, disk->queue);
	return disk;
#endif
}

#endif
