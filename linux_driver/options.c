// SPDX-License-Identifier: GPL-2.0-only
/* What the user chooses: texts to options, with errors that say what to do. */
#include <linux/ctype.h>
#include <linux/fs.h>
#include <linux/inet.h>
#include <linux/kernel.h>
#include <linux/key.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <keys/user-type.h>
#include <net/net_namespace.h>

#include "atdd.h"

const char * const atdd_attach_names[] = {
	[ATDD_AUTO] = "auto",
	[ATDD_EXCLUSIVE] = "exclusive",
	[ATDD_TAKING_OVER] = "take-over",
	[ATDD_CLASSIC] = "classic",
	NULL
};

/* One address: 10.0.0.1:7000 or [fd00::1]:7000. */
static int parse_process(struct sockaddr_storage *address, char *text)
{
	char *port = strrchr(text, ':');
	char *host = text;

	if (!port)
		return -EINVAL;
	*port++ = '\0';
	if (*host == '[') {
		char *end = strchr(host, ']');

		if (!end || end[1])
			return -EINVAL;
		*end = '\0';
		host++;
	}
	return inet_pton_with_scope(&init_net, AF_UNSPEC, host, port, address);
}

int atdd_parse_processes(struct atdd_options *options, const char *text)
{
	char *copy = kstrdup(text, GFP_KERNEL);
	char *rest = copy, *part;
	unsigned int count = 0;
	int error = 0;

	if (!copy)
		return -ENOMEM;
	while (!error && (part = strsep(&rest, ","))) {
		part = strim(part);
		if (count == ATDD_PROCESSES_MAX)
			error = -E2BIG;
		else
			error = parse_process(&options->processes[count++], part);
	}
	kfree(copy);
	/* What was there before is overwritten by now. */
	options->process_count = error ? 0 : count;
	if (error) {
		pr_err("atdd: processes= wants up to %u addresses like 10.0.0.1:7000, divided by commas\n",
		       ATDD_PROCESSES_MAX);
		return error;
	}
	return 0;
}

/* More than 64 digits with space around them, so that too many are seen. */
#define DIGITS_MAX	(2 * ATDD_KEY_SIZE + 16)

/* 64 hex digits, with space around them. */
int atdd_parse_key(struct atdd_options *options, const char *text)
{
	u8 key[ATDD_KEY_SIZE];

	text = skip_spaces(text);
	if (strcspn(text, " \t\r\n") != 2 * ATDD_KEY_SIZE ||
	    *skip_spaces(text + 2 * ATDD_KEY_SIZE) ||
	    hex2bin(key, text, ATDD_KEY_SIZE)) {
		memzero_explicit(key, ATDD_KEY_SIZE);
		pr_err("atdd: the client key is 64 hex digits\n");
		return -EINVAL;
	}
	memcpy(options->key, key, ATDD_KEY_SIZE);
	memzero_explicit(key, ATDD_KEY_SIZE);
	options->has_key = true;
	return 0;
}

int atdd_read_key_file(struct atdd_options *options, const char *path)
{
	char digits[DIGITS_MAX + 1] = { };
	struct file *file = filp_open(path, O_RDONLY, 0);
	ssize_t size = PTR_ERR(file);
	loff_t position = 0;
	int error;

	if (!IS_ERR(file)) {
		size = kernel_read(file, digits, DIGITS_MAX, &position);
		filp_close(file, NULL);
	}
	if (size < 0) {
		pr_err("atdd: the key file %s cannot be read: error %zd\n", path, size);
		return size;
	}
	error = atdd_parse_key(options, digits);
	memzero_explicit(digits, sizeof(digits));
	return error;
}

static int copy_key(struct atdd_options *options, struct key *key)
{
	const struct user_key_payload *payload;
	char digits[DIGITS_MAX + 1] = { };
	int error = 0;

	down_read(&key->sem);
	payload = user_key_payload_locked(key);
	if (!payload) {
		error = -EKEYREVOKED;
	} else if (payload->datalen == ATDD_KEY_SIZE) {
		memcpy(options->key, payload->data, ATDD_KEY_SIZE);
		options->has_key = true;
	} else {
		memcpy(digits, payload->data, min_t(size_t, DIGITS_MAX, payload->datalen));
		error = atdd_parse_key(options, digits);
		memzero_explicit(digits, sizeof(digits));
	}
	up_read(&key->sem);
	return error;
}

/* The key of this description: 32 bytes, or 64 hex digits. */
int atdd_read_keyring(struct atdd_options *options, const char *description)
{
	struct key *key = request_key(&key_type_logon, description, NULL);
	int error;

	if (IS_ERR(key))
		key = request_key(&key_type_user, description, NULL);
	if (IS_ERR(key)) {
		pr_err("atdd: there is no key %s of type logon or user in the keyrings of this process\n",
		       description);
		return PTR_ERR(key);
	}
	error = copy_key(options, key);
	key_put(key);
	return error;
}

/* Bytes, with K, M, G or T if you like. */
int atdd_parse_size(struct atdd_options *options, const char *text)
{
	char *end;
	u64 size = memparse(text, &end);

	if (end == text || *skip_spaces(end) || size % ATDD_SECTOR_SIZE) {
		pr_err("atdd: size= wants a multiple of 4096 bytes, such as 512M\n");
		return -EINVAL;
	}
	options->size_bytes = size;
	return 0;
}

int atdd_parse_attach(struct atdd_options *options, const char *text)
{
	int mode = sysfs_match_string(atdd_attach_names, text);

	if (mode < 0) {
		pr_err("atdd: attach= is auto, exclusive, take-over or classic\n");
		return mode;
	}
	options->attach = mode;
	return 0;
}

int atdd_parse_connections(struct atdd_options *options, const char *text)
{
	return kstrtouint(text, 0, &options->connections);
}

int atdd_parse_queue_depth(struct atdd_options *options, const char *text)
{
	return kstrtouint(text, 0, &options->queue_depth);
}

int atdd_parse_timeout(struct atdd_options *options, const char *text)
{
	return kstrtouint(text, 0, &options->timeout_s);
}

/* Whether a device can be made of these. */
int atdd_check_options(const char *name, const struct atdd_options *options)
{
	if (!options->process_count) {
		pr_err("%s: processes= is missing: the addresses of the cluster's processes\n",
		       name);
		return -EINVAL;
	}
	if (!options->has_key) {
		pr_err("%s: the client key is missing: give key_file=, key= or hmac=\n", name);
		return -EINVAL;
	}
	if (!options->connections || options->connections > ATDD_CONNECTIONS_MAX) {
		pr_err("%s: connections= is 1 to %u\n", name, ATDD_CONNECTIONS_MAX);
		return -EINVAL;
	}
	if (options->timeout_s > ATDD_TIMEOUT_MAX) {
		pr_err("%s: timeout= is 0 to %u seconds\n", name, ATDD_TIMEOUT_MAX);
		return -EINVAL;
	}
	if (!options->queue_depth || options->queue_depth > ATDD_QUEUE_DEPTH_MAX) {
		pr_err("%s: queue_depth= is 1 to %u\n", name, ATDD_QUEUE_DEPTH_MAX);
		return -EINVAL;
	}
	return 0;
}
