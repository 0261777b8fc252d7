// SPDX-License-Identifier: GPL-2.0-only
/* The module: its parameters, and devices from their making to their end. */
#include <linux/module.h>
#include <linux/random.h>
#include <linux/slab.h>

#include "atdd.h"

static struct atdd_options parameters = ATDD_DEFAULT_OPTIONS;
static struct atdd_device *first;

/* Makes a device of these options: it is there when this returns. */
struct atdd_device *atdd_add(const char *name, const struct atdd_options *options)
{
	struct atdd_device *device;
	int error;

	error = atdd_check_options(name, options);
	if (error)
		return ERR_PTR(error);
	device = kvzalloc(sizeof(*device), GFP_KERNEL);
	if (!device)
		return ERR_PTR(-ENOMEM);
	strscpy(device->name, name, sizeof(device->name));
	device->options = *options;
	spin_lock_init(&device->lock);
	INIT_LIST_HEAD(&device->queued);
	INIT_LIST_HEAD(&device->pending);
	INIT_LIST_HEAD(&device->ended);
	device->writes = RB_ROOT_CACHED;
	init_waitqueue_head(&device->changed);
	init_completion(&device->opened);
	get_random_bytes(device->owner, sizeof(device->owner));
	get_random_bytes(device->join_key, sizeof(device->join_key));

	error = atdd_auth_init(device);
	if (error)
		goto free;
	error = atdd_connections_start(device);
	if (error)
		goto exit_auth;
	error = atdd_blk_add(device);
	if (error)
		goto stop;
	return device;

stop:
	atdd_connections_stop(device);
exit_auth:
	atdd_auth_exit(device);
free:
	kvfree_sensitive(device, sizeof(*device));
	return ERR_PTR(error);
}

/* Ends a device, whatever state its servers are in. */
void atdd_remove(struct atdd_device *device)
{
	atdd_fail_all(device, ATDD_REMOVED);
	atdd_blk_remove(device);
	atdd_connections_stop(device);
	atdd_auth_exit(device);
	kvfree_sensitive(device, sizeof(*device));
}

/*
 * The parameters are parsed when they are given, so that no text of the key
 * stays, and none of them can be read back from /sys.
 */
static int set_parameter(const char *text, const struct kernel_param *param)
{
	int (*parse)(struct atdd_options *options, const char *text) = param->arg;

	return parse(&parameters, text);
}

static const struct kernel_param_ops parameter_ops = { .set = set_parameter };

module_param_cb(processes, &parameter_ops, atdd_parse_processes, 0);
MODULE_PARM_DESC(processes, "addresses of the cluster's processes: 10.0.0.1:7000,10.0.0.2:7000,...");
module_param_cb(hmac, &parameter_ops, atdd_parse_key, 0);
MODULE_PARM_DESC(hmac, "client key, 64 hex digits; better: key_file or key");
module_param_cb(key_file, &parameter_ops, atdd_read_key_file, 0);
MODULE_PARM_DESC(key_file, "file with the client key, 64 hex digits");
module_param_cb(key, &parameter_ops, atdd_read_keyring, 0);
MODULE_PARM_DESC(key, "description of the client key in the keyring");
module_param_cb(size, &parameter_ops, atdd_parse_size, 0);
MODULE_PARM_DESC(size, "size in bytes, K, M, G, T; default: what the server says");
module_param_cb(attach, &parameter_ops, atdd_parse_attach, 0);
MODULE_PARM_DESC(attach, "auto (default), exclusive, take-over or classic");
module_param_cb(connections, &parameter_ops, atdd_parse_connections, 0);
MODULE_PARM_DESC(connections, "TCP connections; default 4");
module_param_cb(queue_depth, &parameter_ops, atdd_parse_queue_depth, 0);
MODULE_PARM_DESC(queue_depth, "requests under way; default 128");
module_param_cb(timeout, &parameter_ops, atdd_parse_timeout, 0);
MODULE_PARM_DESC(timeout, "seconds until a request fails; default 0: it waits for a majority");

static int __init atdd_init(void)
{
	int error;

	error = atdd_configfs_register();
	if (error)
		return error;
	if (parameters.process_count) {
		first = atdd_add("atdd", &parameters);
		memzero_explicit(parameters.key, sizeof(parameters.key));
		if (IS_ERR(first)) {
			atdd_configfs_unregister();
			return PTR_ERR(first);
		}
	}
	atdd_configfs_open();
	return 0;
}

static void __exit atdd_exit(void)
{
	atdd_configfs_unregister();
	if (first)
		atdd_remove(first);
}

module_init(atdd_init);
module_exit(atdd_exit);

MODULE_DESCRIPTION("Atomic Disk Drive: a disk that several machines keep together");
MODULE_AUTHOR("The Atomic Disk Drive engineers");
MODULE_LICENSE("GPL");
