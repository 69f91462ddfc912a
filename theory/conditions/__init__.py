"""Evaluates the inequalities at measured values; each function returns a `Bound`.

A `Bound` names its statement, the hypotheses checked on the arguments, and the hypotheses that are
assumed.

Example:
    >>> from theory import conditions
    >>> conditions.functional_gap_from_cosine(0.02, lipschitz=3.0).assumed[1]
    'h is Lipschitz in the direction x/|x| with the constant given'
"""

from theory.conditions.bound import Bound as Bound
from theory.conditions.functional import (
    drop_bound_from_disagreement as drop_bound_from_disagreement,
)
from theory.conditions.functional import exit_bound_from_var as exit_bound_from_var
from theory.conditions.functional import kl_from_logit_change as kl_from_logit_change
from theory.conditions.functional import (
    log_prob_change_from_logit_change as log_prob_change_from_logit_change,
)
from theory.conditions.functional import margin_certificate as margin_certificate
from theory.conditions.functional import removal_bound_from_var as removal_bound_from_var
from theory.conditions.functional import telescoping_bound as telescoping_bound
from theory.conditions.functional import tv_from_logit_change as tv_from_logit_change
from theory.conditions.gaussian import gaussian_exit_loss as gaussian_exit_loss
from theory.conditions.gaussian import gaussian_information_floor as gaussian_information_floor
from theory.conditions.gaussian import (
    gaussian_information_from_correlation as gaussian_information_from_correlation,
)
from theory.conditions.gaussian import refit_cost as refit_cost
from theory.conditions.geometric import functional_gap_from_cosine as functional_gap_from_cosine
from theory.conditions.geometric import functional_gap_from_tail as functional_gap_from_tail
from theory.conditions.geometric import matrix_entropy_change as matrix_entropy_change
from theory.conditions.geometric import mean_from_tail as mean_from_tail
from theory.conditions.geometric import state_gap as state_gap
from theory.conditions.geometric import tail_from_mean as tail_from_mean
from theory.conditions.information_loss import early_exit_loss_from_pid as early_exit_loss_from_pid
from theory.conditions.information_loss import (
    information_gap_from_support as information_gap_from_support,
)
from theory.conditions.information_loss import (
    late_entry_loss_from_collisions as late_entry_loss_from_collisions,
)
from theory.conditions.information_loss import vision_removal_cost as vision_removal_cost
from theory.conditions.information_loss import withdrawal_gap_next as withdrawal_gap_next
from theory.conditions.predictor_risk import error_from_entropy as error_from_entropy
from theory.conditions.predictor_risk import fano_accuracy_drop as fano_accuracy_drop
from theory.conditions.predictor_risk import fano_error as fano_error
from theory.conditions.predictor_risk import nll_change_from_kl as nll_change_from_kl
from theory.conditions.predictor_risk import risk_gap_from_information as risk_gap_from_information
from theory.conditions.predictor_risk import (
    usable_information_unsafety as usable_information_unsafety,
)
