/* xft devices */
#include "command.h"
#include "xft/device.h"

static const char *class_name(xft_device_class class) {
    static const char *const names[] = {"discrete GPU", "integrated GPU", "CPU", "unknown"};
    return (unsigned)class < 4 ? names[class] : "unknown";
}

static json_t *device_json(const xft_device_info *d) {
    json_t *o = json_pack("{s:s,s:s,s:s,s:s,s:s,s:b}", "id", d->id, "name", d->name, "platform", d->platform, "driver",
                          d->driver, "class", class_name(d->device_class), "usable", d->usable);
    if (!d->usable) {
        json_object_set_new(o, "reason", json_string(d->reason));
        return o;
    }
    json_object_set_new(o, "memory", json_integer((json_int_t)d->memory_bytes));
    json_object_set_new(o, "max_allocation", json_integer((json_int_t)d->max_allocation_bytes));
    json_object_set_new(o, "compute_units", json_integer(d->compute_units));
    json_object_set_new(o, "local_memory", json_integer(d->local_memory_bytes));
    json_object_set_new(o, "subgroup_size", json_integer(d->subgroup_size));
    json_object_set_new(o, "cooperative_matrix", json_boolean(d->cooperative_matrix));
    json_object_set_new(o, "timestamps", json_boolean(d->timestamps));
    if (*d->same_as) json_object_set_new(o, "same_as", json_string(d->same_as));
    return o;
}

static void print_device(const xft_device_info *d) {
    printf("%-10s %s\n", d->id, d->name);
    if (!d->usable) {
        printf("%-10s cannot be used: %s\n", "", d->reason);
        return;
    }
    printf("%-10s %s, %s, one allocation up to %s; %s", "", class_name(d->device_class), size_text(d->memory_bytes),
           size_text(d->max_allocation_bytes), d->platform);
    if (*d->driver) printf(", %s", d->driver);
    if (d->subgroup_size) printf("; subgroups of %u", d->subgroup_size);
    if (d->cooperative_matrix) printf(", cooperative matrices");
    if (*d->same_as) printf("; the same card as %s", d->same_as);
    putchar('\n');
}

int run_devices(call *call) {
    xft_device_info *list;
    uint32_t count, usable = 0;
    const xft_status status = xft_devices(&list, &count);
    if (status) return fail_status(status);
    json_t *array = json_array();
    for (uint32_t i = 0; i < count; i++) {
        usable += list[i].usable;
        if (call->json)
            json_array_append_new(array, device_json(&list[i]));
        else
            print_device(&list[i]);
    }
    xft_devices_free(list);
    if (call->json) return print_json(array);
    json_decref(array);
    return usable ? EXIT_DONE : fail(EXIT_FAILED, "no device can be used");
}
