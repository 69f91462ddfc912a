"""Finite-sample certificates for one plan or a family of plans; the image is the independent unit.

Example:
    >>> from theory.certificates import METHODS
    >>> "hoeffding-bentkus" in METHODS
    True
"""

from theory.certificates.alarm import Alarm as Alarm
from theory.certificates.alarm import alarm_stakes as alarm_stakes
from theory.certificates.anytime import anytime_p_values as anytime_p_values
from theory.certificates.anytime import anytime_upper_bound as anytime_upper_bound
from theory.certificates.certificate import AT_LIMIT as AT_LIMIT
from theory.certificates.certificate import METHODS as METHODS
from theory.certificates.certificate import RANGES as RANGES
from theory.certificates.certificate import Certificate as Certificate
from theory.certificates.certify import certify_mean as certify_mean
from theory.certificates.certify import label_free_drop as label_free_drop
from theory.certificates.drop import certify_drop as certify_drop
from theory.certificates.exchangeability import conformal_p_values as conformal_p_values
from theory.certificates.exchangeability import exchangeability_capital as exchangeability_capital
from theory.certificates.exchangeability import exchangeability_p_value as exchangeability_p_value
from theory.certificates.exchangeability import stream_alarm as stream_alarm
from theory.certificates.families import CONTROLS as CONTROLS
from theory.certificates.families import Selection as Selection
from theory.certificates.families import learn_then_test as learn_then_test
from theory.certificates.families import rejected as rejected
from theory.certificates.groups import GroupCertificates as GroupCertificates
from theory.certificates.groups import certify_groups as certify_groups
from theory.certificates.power import certification_power as certification_power
from theory.certificates.power import images_for_power as images_for_power
from theory.certificates.prediction_powered import PoweredBound as PoweredBound
from theory.certificates.prediction_powered import powered_upper_bound as powered_upper_bound
from theory.certificates.quantile import QuantileCertificate as QuantileCertificate
from theory.certificates.quantile import certify_quantile as certify_quantile
from theory.certificates.quantile import images_for_quantile as images_for_quantile
from theory.certificates.quantile import quantile_upper_bound as quantile_upper_bound
from theory.certificates.risks import RISK_CONTROLS as RISK_CONTROLS
from theory.certificates.risks import RiskCertificates as RiskCertificates
from theory.certificates.risks import certify_risks as certify_risks
from theory.certificates.sample_size import images_needed as images_needed
from theory.certificates.sample_size import reachable_epsilon as reachable_epsilon
from theory.certificates.sample_size import zero_failure_bound as zero_failure_bound
from theory.certificates.shift import certify_shifted as certify_shifted
from theory.certificates.shortfall import images_at_best as images_at_best
from theory.certificates.shortfall import what_it_takes as what_it_takes
from theory.certificates.tango import tango_upper_bound as tango_upper_bound
