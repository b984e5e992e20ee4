/* SPDX-License-Identifier: Apache-2.0 */
/* The C border of the installed package: compiles as C11, links, and prints the version. */
#include <stdio.h>

#include "crossdock/crossdock.h"

int main(void) {
  puts(crossdock_version());
  return 0;
}
