// SPDX-License-Identifier: GPL-2.0-only
/* The block device: requests as the block layer gives them, and the disk's name. */
#include <linux/blkdev.h>
#include <linux/delay.h>
#include <linux/module.h>

#include "atdd.h"
#include "compat.h"

/* The disk without a number: its partitions have the names of numbered ones. */
static struct gendisk *plain_disk;
static unsigned int numbered_disks;
static DEFINE_MUTEX(names_lock);

/* Seconds for each read of the partition table, unless timeout= is shorter. */
#define ADD_TIME	15
/* Each is followed by 20 ms. */
#define CLAIM_TRIES	150

static blk_status_t atdd_queue_rq(struct blk_mq_hw_ctx *hctx,
				  const struct blk_mq_queue_data *data)
{
	struct request *rq = data->rq;
	struct atdd_request *request = blk_mq_rq_to_pdu(rq);
	struct atdd_device *device = hctx->queue->queuedata;
	unsigned int shift = ATDD_SECTOR_SHIFT - SECTOR_SHIFT;

	request->first = blk_rq_pos(rq) >> shift;
	request->count = blk_rq_sectors(rq) >> shift;
	request->units = atdd_has_data(rq) ? request->count : 1;
	request->left = request->units;
	request->pins = 0;
	request->over = false;
	request->blocked = false;
	INIT_LIST_HEAD(&request->pending);
	if (WARN_ON_ONCE(!request->count || request->units > ATDD_REQUEST_SECTORS))
		return BLK_STS_IOERR;
	bitmap_zero(request->todo, ATDD_REQUEST_SECTORS);
	bitmap_set(request->todo, 0, request->units);

	return atdd_enqueue(device, request) ? BLK_STS_OK : BLK_STS_IOERR;
}

static void atdd_complete_rq(struct request *rq)
{
	struct atdd_request *request = blk_mq_rq_to_pdu(rq);

	blk_mq_end_request(rq, request->status);
}

static enum blk_eh_timer_return atdd_timeout(struct request *rq)
{
	struct atdd_request *request = blk_mq_rq_to_pdu(rq);
	struct atdd_device *device = rq->q->queuedata;

	if (!READ_ONCE(device->added)) {
		/* Whoever adds the disk waits for this. */
		atdd_fail_all(device, ATDD_DEAD);
		return BLK_EH_DONE;
	}
	if (!device->options.timeout_s)
		return BLK_EH_RESET_TIMER;
	dev_err_ratelimited(disk_to_dev(device->disk),
			    "no majority of processes answered in %u s\n",
			    device->options.timeout_s);
	atdd_give_up(device, request);
	return BLK_EH_DONE;
}

static const struct blk_mq_ops atdd_mq_ops = {
	.queue_rq	= atdd_queue_rq,
	.complete	= atdd_complete_rq,
	.timeout	= atdd_timeout,
};

static const struct block_device_operations atdd_fops = {
	.owner		= THIS_MODULE,
};

/*
 * Partition 1 of the disk "atdd" and the disk "atdd1" have one name. So the
 * first has no partitions while there are others, and no others come while it
 * has some.
 */
static int claim_name(struct atdd_device *device)
{
	unsigned long first = 1;	/* 0 is the disk itself */
	bool has_partitions = false;

	if (!strcmp(device->name, "atdd")) {
		plain_disk = device->disk;
		if (numbered_disks)
			plain_disk->flags |= GENHD_FL_NO_PART;
		return 0;
	}
	if (plain_disk) {
		unsigned int tries = 0;

		/* Nobody looks for partitions meanwhile. */
		while (!mutex_trylock(&plain_disk->open_mutex)) {
			/* Whoever has it may wait for a majority. */
			if (++tries == CLAIM_TRIES) {
				pr_err("%s: the disk atdd is busy: try again\n", device->name);
				return -EBUSY;
			}
			msleep(20);
		}
		has_partitions = xa_find(&plain_disk->part_tbl, &first, ULONG_MAX, XA_PRESENT);
		if (!has_partitions)
			plain_disk->flags |= GENHD_FL_NO_PART;
		mutex_unlock(&plain_disk->open_mutex);
	}
	if (has_partitions) {
		pr_err("%s: the partitions of the disk atdd have such names: remove them, or use numbered disks only\n",
		       device->name);
		return -EEXIST;
	}
	numbered_disks++;
	return 0;
}

static void give_name_back(struct atdd_device *device)
{
	if (!strcmp(device->name, "atdd"))
		plain_disk = NULL;
	else
		numbered_disks--;
	if (plain_disk && !numbered_disks)
		plain_disk->flags &= ~GENHD_FL_NO_PART;
}

/* Adds the disk of a device that knows its size. */
int atdd_blk_add(struct atdd_device *device)
{
	unsigned int shift = ATDD_SECTOR_SHIFT - SECTOR_SHIFT;
	u32 discard_max = min_t(u32, device->discard_max, UINT_MAX >> ATDD_SECTOR_SHIFT);
	unsigned int timeout_s = device->options.timeout_s ?: ADD_TIME;
	struct atdd_limits limits = {
		.sector_size = ATDD_SECTOR_SIZE,
		.request_sectors = ATDD_REQUEST_SECTORS << shift,
		.discard_sectors = discard_max << shift,
	};
	struct gendisk *disk;
	int error;

	device->tags = (struct blk_mq_tag_set) {
		.ops = &atdd_mq_ops,
		.nr_hw_queues = 1,
		.queue_depth = device->options.queue_depth,
		.numa_node = NUMA_NO_NODE,
		.cmd_size = sizeof(struct atdd_request),
		.flags = BLK_MQ_F_SHOULD_MERGE,
		.timeout = min_t(unsigned int, timeout_s, ADD_TIME) * HZ,
	};
	error = blk_mq_alloc_tag_set(&device->tags);
	if (error)
		return error;
	disk = atdd_alloc_disk(&device->tags, &limits, device);
	if (IS_ERR(disk)) {
		error = PTR_ERR(disk);
		goto free_tags;
	}
	disk->fops = &atdd_fops;
	disk->private_data = device;
	strscpy(disk->disk_name, device->name, sizeof(disk->disk_name));
	set_capacity(disk, device->sectors << shift);
	device->disk = disk;

	mutex_lock(&names_lock);
	error = claim_name(device);
	mutex_unlock(&names_lock);
	if (error)
		goto put_disk;
	error = device_add_disk(NULL, disk, NULL);
	if (error)
		goto give_name_back;
	blk_queue_rq_timeout(disk->queue, timeout_s * HZ);
	WRITE_ONCE(device->added, true);
	if (READ_ONCE(device->state) == ATDD_RUNNING)
		return 0;
	pr_err("%s: the disk could not be read: do a majority of the processes reach one another?\n",
	       device->name);
	error = -ETIMEDOUT;
	del_gendisk(disk);

give_name_back:
	mutex_lock(&names_lock);
	give_name_back(device);
	mutex_unlock(&names_lock);
put_disk:
	device->disk = NULL;
	put_disk(disk);
free_tags:
	blk_mq_free_tag_set(&device->tags);
	return error;
}

/* Removes the disk, whose requests fail by now. */
void atdd_blk_remove(struct atdd_device *device)
{
	del_gendisk(device->disk);
	mutex_lock(&names_lock);
	give_name_back(device);
	mutex_unlock(&names_lock);
	put_disk(device->disk);
	blk_mq_free_tag_set(&device->tags);
}
