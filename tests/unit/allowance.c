/* What one user has taken is missed by nobody else until all is taken. */
#include "allowance.h"

#include <criterion/criterion.h>

Test(allowance, of_each_and_of_all)
{
    Allowance *allowance = allowance_new(2, 3);

    cr_expect(allowance_take(allowance, 1) && allowance_take(allowance, 1));
    cr_expect_not(allowance_take(allowance, 1), "a third of one user");
    cr_expect(allowance_take(allowance, 2));
    cr_expect_not(allowance_take(allowance, 2), "a fourth of all");
    cr_expect_not(allowance_take(allowance, 3), "a fourth of all");
    allowance_give_back(allowance, 1);
    cr_expect(allowance_take(allowance, 3));
    allowance_give_back(allowance, 1);
    allowance_give_back(allowance, 2);
    allowance_give_back(allowance, 3);
    cr_expect(allowance_take(allowance, 1) && allowance_take(allowance, 1));
    allowance_free(allowance);
}
