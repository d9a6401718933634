"""Story 3: from a filing to a verdict.

states.py says what may happen when, questions.py what is asked (both pure); course.py moves a dispute's row; filing.py,
openings.py, probing.py and resolution.py are the steps, in this order; case_file.py reads back what they left.
"""
