// SPDX-License-Identifier: GPL-2.0-only
/*
 * Further devices: a directory in /sys/kernel/config/atdd is one, its files are
 * the options, and 1 in its file `power` makes the disk.
 */
#include <linux/configfs.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "atdd.h"

struct atdd_item {
	struct config_group group;
	struct mutex mutex;		/* all that follows */
	struct atdd_options options;
	struct atdd_device *device;	/* NULL while there is no disk */
	char name[DISK_NAME_LEN];
};

static struct atdd_item *to_item(struct config_item *item)
{
	return container_of(to_config_group(item), struct atdd_item, group);
}

/* Takes an option, unless there is a disk that was made of them. */
static ssize_t store(struct config_item *config_item, const char *page, size_t size,
		     int (*parse)(struct atdd_options *options, const char *text))
{
	struct atdd_item *item = to_item(config_item);
	char *text = kmemdup_nul(page, size, GFP_KERNEL);
	int error;

	if (!text)
		return -ENOMEM;
	mutex_lock(&item->mutex);
	error = item->device ? -EBUSY : parse(&item->options, strim(text));
	mutex_unlock(&item->mutex);
	kfree_sensitive(text);
	return error ?: size;
}

#define ATDD_STORE(option, parse)						\
	static ssize_t atdd_##option##_store(struct config_item *item,		\
					   const char *page, size_t size)	\
	{									\
		return store(item, page, size, parse);				\
	}

#define ATDD_SHOW(option, format, value)					\
	static ssize_t atdd_##option##_show(struct config_item *item, char *page) \
	{									\
		const struct atdd_options *options = &to_item(item)->options;	\
										\
		return sysfs_emit(page, format "\n", value);			\
	}

ATDD_STORE(hmac, atdd_parse_key)
CONFIGFS_ATTR_WO(atdd_, hmac);
ATDD_STORE(key_file, atdd_read_key_file)
CONFIGFS_ATTR_WO(atdd_, key_file);
ATDD_STORE(key, atdd_read_keyring)
CONFIGFS_ATTR_WO(atdd_, key);

ATDD_STORE(size, atdd_parse_size)
ATDD_SHOW(size, "%llu", options->size_bytes)
CONFIGFS_ATTR(atdd_, size);
ATDD_STORE(attach, atdd_parse_attach)
ATDD_SHOW(attach, "%s", atdd_attach_names[options->attach])
CONFIGFS_ATTR(atdd_, attach);
ATDD_STORE(connections, atdd_parse_connections)
ATDD_SHOW(connections, "%u", options->connections)
CONFIGFS_ATTR(atdd_, connections);
ATDD_STORE(queue_depth, atdd_parse_queue_depth)
ATDD_SHOW(queue_depth, "%u", options->queue_depth)
CONFIGFS_ATTR(atdd_, queue_depth);
ATDD_STORE(timeout, atdd_parse_timeout)
ATDD_SHOW(timeout, "%u", options->timeout_s)
CONFIGFS_ATTR(atdd_, timeout);

ATDD_STORE(processes, atdd_parse_processes)
static ssize_t atdd_processes_show(struct config_item *item, char *page)
{
	const struct atdd_options *options = &to_item(item)->options;
	unsigned int index;
	int size = 0;

	for (index = 0; index < options->process_count; index++)
		size += sysfs_emit_at(page, size, "%s%pISpc", index ? "," : "",
				      &options->processes[index]);
	return size + sysfs_emit_at(page, size, "\n");
}
CONFIGFS_ATTR(atdd_, processes);

static ssize_t atdd_power_show(struct config_item *item, char *page)
{
	return sysfs_emit(page, "%d\n", !!to_item(item)->device);
}

static int power(struct atdd_item *item, bool on)
{
	struct atdd_device *device;

	if (on == !!item->device)
		return 0;
	if (!on) {
		atdd_remove(item->device);
		item->device = NULL;
		return 0;
	}
	device = atdd_add(item->name, &item->options);
	if (IS_ERR(device))
		return PTR_ERR(device);
	item->device = device;
	return 0;
}

static ssize_t atdd_power_store(struct config_item *config_item, const char *page,
				size_t size)
{
	struct atdd_item *item = to_item(config_item);
	bool on;
	int error = kstrtobool(page, &on);

	if (error)
		return error;
	mutex_lock(&item->mutex);
	error = power(item, on);
	mutex_unlock(&item->mutex);
	return error ?: size;
}
CONFIGFS_ATTR(atdd_, power);

static struct configfs_attribute *atdd_attributes[] = {
	&atdd_attr_processes,
	&atdd_attr_hmac,
	&atdd_attr_key_file,
	&atdd_attr_key,
	&atdd_attr_size,
	&atdd_attr_attach,
	&atdd_attr_connections,
	&atdd_attr_queue_depth,
	&atdd_attr_timeout,
	&atdd_attr_power,
	NULL
};

static void atdd_release(struct config_item *config_item)
{
	kfree_sensitive(to_item(config_item));
}

static struct configfs_item_operations atdd_item_ops = {
	.release	= atdd_release,
};

static const struct config_item_type atdd_item_type = {
	.ct_item_ops	= &atdd_item_ops,
	.ct_attrs	= atdd_attributes,
	.ct_owner	= THIS_MODULE,
};

/* Set once loading cannot fail any more: until then nothing may stay behind. */
static bool loaded;

/* Directories are named like their disks: atdd1, atdd2 and so on. */
static struct config_group *atdd_make_group(struct config_group *group, const char *name)
{
	struct atdd_item *item;
	size_t digits = strspn(name + min_t(size_t, 4, strlen(name)), "0123456789");

	if (!READ_ONCE(loaded)) {
		pr_err("atdd: the module is still being loaded\n");
		return ERR_PTR(-EAGAIN);
	}
	if (strncmp(name, "atdd", 4) || !digits || name[4] == '0' || name[4 + digits] ||
	    strlen(name) >= DISK_NAME_LEN) {
		pr_err("atdd: a device is named atdd1, atdd2 and so on\n");
		return ERR_PTR(-EINVAL);
	}
	item = kzalloc(sizeof(*item), GFP_KERNEL);
	if (!item)
		return ERR_PTR(-ENOMEM);
	mutex_init(&item->mutex);
	item->options = (struct atdd_options)ATDD_DEFAULT_OPTIONS;
	strscpy(item->name, name, sizeof(item->name));
	config_group_init_type_name(&item->group, name, &atdd_item_type);
	return &item->group;
}

static void atdd_drop_item(struct config_group *group, struct config_item *config_item)
{
	struct atdd_item *item = to_item(config_item);

	mutex_lock(&item->mutex);
	power(item, false);
	mutex_unlock(&item->mutex);
	config_item_put(config_item);
}

static struct configfs_group_operations atdd_group_ops = {
	.make_group	= atdd_make_group,
	.drop_item	= atdd_drop_item,
};

static const struct config_item_type atdd_group_type = {
	.ct_group_ops	= &atdd_group_ops,
	.ct_owner	= THIS_MODULE,
};

static struct configfs_subsystem atdd_subsystem = {
	.su_group = {
		.cg_item = {
			.ci_namebuf = "atdd",
			.ci_type = &atdd_group_type,
		},
	},
};

int atdd_configfs_register(void)
{
	config_group_init(&atdd_subsystem.su_group);
	mutex_init(&atdd_subsystem.su_mutex);
	return configfs_register_subsystem(&atdd_subsystem);
}

/* From now on there may be further devices. */
void atdd_configfs_open(void)
{
	WRITE_ONCE(loaded, true);
}

void atdd_configfs_unregister(void)
{
	configfs_unregister_subsystem(&atdd_subsystem);
}
