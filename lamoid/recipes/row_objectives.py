"""Every objective about rows."""

from lamoid.recipes.span_table import SpansTable
from lamoid.recipes.tag_table import TagsTable
from lamoid.recipes.text_answers import ClassesTable, LabelsTable, RegressionTable
from lamoid.recipes.written_tables import ChatTable, SequenceTable

AnyRowObjective = ClassesTable | LabelsTable | RegressionTable | TagsTable | SpansTable | SequenceTable | ChatTable
