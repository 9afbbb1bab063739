// SPDX-License-Identifier: Apache-2.0
//
// Error codes of the hypercall interface. A hypercall returns a value >= 0 or the negative of one of these.

#pragma once

enum basalt_error {
    BASALT_EPERM = 1,   // the handle lacks the right, or the caller is not in CPL 0
    BASALT_ENOENT = 2,  // no such object
    BASALT_EINTR = 4,   // stopped half way on purpose: call again with the progress returned
    BASALT_EBADF = 9,   // not a valid handle
    BASALT_EAGAIN = 11, // not now; an event will tell
    BASALT_ENOMEM = 12, // the machine has no more free frames
    BASALT_EFAULT = 14, // an address of the caller's is not memory of the caller's
    BASALT_EBUSY = 16,  // in use
    BASALT_EEXIST = 17, // exists already
    BASALT_ENODEV = 19, // no such device
    BASALT_EINVAL = 22, // an argument is out of range
    BASALT_ENOSPC = 28, // a quota of the domain's is used up
    BASALT_ENOSYS = 38, // no such hypercall
};
