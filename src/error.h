/* SPDX-License-Identifier: MIT */
#ifndef SW_ERROR_H
#define SW_ERROR_H

/* sw_error_of_errno says which of sipwire's errors a failed call on a socket
   means; SIPWIRE_ECLOSED for 0.  Pure. */
int sw_error_of_errno(int number);

#endif
