"""One stack of one model: its quality, the harm of every single skip, and what can be certified."""

from vlm_bridge.experiments.survey.page import write_survey as write_survey
from vlm_bridge.experiments.survey.results import Survey as Survey
from vlm_bridge.experiments.survey.run import SurveyData as SurveyData
from vlm_bridge.experiments.survey.run import survey as survey
